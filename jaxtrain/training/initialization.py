"""The state with which a run begins, where the config has its parameters look at training images first."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.data.dataset import ArraySource
from jaxtrain.data.loader import normalize
from jaxtrain.data.preprocessing.base import Preprocessing
from jaxtrain.data.preprocessing.resizing import pad_images
from jaxtrain.data.streaming import StreamedSplit
from jaxtrain.errors import ConfigError
from jaxtrain.nn.init.data_dependent import Initialization
from jaxtrain.random import INIT, stream
from jaxtrain.run.compilation_cache import jit_once
from jaxtrain.training.plan import Plan
from jaxtrain.training.state import TrainState, initializer


def initial_state(plan: Plan, normalization: Preprocessing, train: ArraySource | StreamedSplit) -> TrainState:
    """The state before the first step, on the devices of the plan.

    Args:
      plan: of the run.
      normalization: as fitted.
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
    images = _first_images(plan, normalization, train, initialization.examples)
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


def _first_images(
    plan: Plan, normalization: Preprocessing, train: ArraySource | StreamedSplit, count: int
) -> jax.Array:
    """The first images of the training split as the model sees them, without augmentation."""
    chosen: Any = train.take(np.arange(min(count, len(train))))
    source: ArraySource = next(chosen.chunks(len(chosen))) if isinstance(train, StreamedSplit) else chosen
    images = pad_images(source.images, plan.config.data.pad)
    return jax.jit(functools.partial(normalize, normalization=normalization))(images)
