"""The initial state of a run, including data-dependent initialization from training images."""

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
from jaxtrain.random import INIT, stream_key
from jaxtrain.training.plan import Plan
from jaxtrain.training.state import TrainState, jit_for_one_call, state_initializer


def initialize_run(plan: Plan, normalization: Preprocessing, train: Split) -> TrainState:
    """Make the state before the first step, on the devices of the plan.

    Args:
      plan: the plan of the run.
      normalization: the preprocessing, fitted.
      train: the training split as it was loaded, before padding.

    Raises:
      ConfigError: the initialization of the config does not support this model or these images.
    """
    shardings, spec = plan.layout.of_state(plan.abstract), plan.config.initialize
    if spec is None:
        init = state_initializer(plan.model, plan.optimizer.tx, plan.splits.image_shape, plan.config.seed)
        state: TrainState = jit_for_one_call(init, shardings)()
        return state
    initialization: Initialization = spec.build()
    images = _first_images(train, initialization.examples, plan.config.data.pad, normalization)
    try:
        variables = dict(initialization.variables(plan.model, stream_key(plan.config.seed, INIT, 0), images))
    except ValueError as error:
        raise ConfigError(str(error), "initialize") from error
    params = variables.pop("params")

    def make_state(params: Any, variables: Any) -> TrainState:
        return TrainState(jnp.int32(0), params, variables, plan.optimizer.tx.init(params))

    # as host arrays, which are equal in all processes
    host_arrays = jax.tree.map(np.asarray, (params, variables))
    initial: TrainState = plan.layout.jit(make_state, out_shardings=shardings)(*host_arrays)
    return initial


def _first_images(train: Split, count: int, margin: int, normalization: Preprocessing) -> jax.Array:
    """Return the first images of the training split as the model gets them: padded and normalized, not augmented."""
    chosen = train.take(np.arange(min(count, len(train))))
    images = pad_images(next(chosen.chunks(len(chosen))).images, margin)
    return jax.jit(functools.partial(normalize, normalization=normalization))(images)
