"""The state with which a run begins, also where the config has its parameters look at training images first."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.data.loader import normalize
from jaxtrain.data.preprocessing.base import Preprocessing
from jaxtrain.data.preprocessing.resizing import pad_images
from jaxtrain.data.source import Split
from jaxtrain.errors import ConfigError
from jaxtrain.nn.init.data_dependent import Initialization
from jaxtrain.random import INIT, stream
from jaxtrain.training.plan import Plan
from jaxtrain.training.state import TrainState, initializer, jit_once


def initial_state(plan: Plan, normalization: Preprocessing, train: Split) -> TrainState:
    """Return the state before the first step, on the devices of the plan.

    Args:
      plan: the plan of the run.
      normalization: the preprocessing, fitted.
      train: the training split as loaded, before padding.

    Raises:
      ConfigError: the initialization of the config is not for such a model or such images.
    """
    where, spec = plan.layout.of_state(plan.abstract), plan.config.initialize
    if spec is None:
        begin = initializer(plan.model, plan.optimizer.tx, plan.splits.image_shape, plan.config.seed)
        state: TrainState = jit_once(begin, where)()
        return state
    initialization: Initialization = spec.build()
    images = _first_images(train, initialization.examples, plan.config.data.pad, normalization)
    try:
        variables = dict(initialization.variables(plan.model, stream(plan.config.seed, INIT, 0), images))
    except ValueError as error:
        raise ConfigError(str(error), "initialize") from error
    params = variables.pop("params")

    def begin_with(params: Any, variables: Any) -> TrainState:
        return TrainState(jnp.int32(0), params, variables, plan.optimizer.tx.init(params))

    # as numbers of the host, which are the same in every process
    given = jax.tree.map(np.asarray, (params, variables))
    found: TrainState = plan.layout.jit(begin_with, out_shardings=where)(*given)
    return found


def _first_images(train: Split, count: int, margin: int, normalization: Preprocessing) -> jax.Array:
    """The first images of the training split as the model sees them, without augmentation."""
    chosen = train.take(np.arange(min(count, len(train))))
    images = pad_images(next(chosen.chunks(len(chosen))).images, margin)
    return jax.jit(functools.partial(normalize, normalization=normalization))(images)
