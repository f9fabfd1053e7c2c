"""Schedules of the momentum."""

import jax
import jax.numpy as jnp

from jaxtrain.annotations import Fraction, Steps
from jaxtrain.optim.schedules.base import Schedule


def sutskever_momentum(peak: Fraction = 0.99, *, every: Steps = 250) -> Schedule:
    """Build the momentum schedule of Sutskever et al. 2013, equation 5: 1/2, 3/4, 5/6, 7/8, ... up to `peak`.

        min(1 - 2 ** (-1 - log2(floor(t / every) + 1)), peak) = min(1 - 1 / (2 * (floor(t / every) + 1)), peak)

    Args:
      peak: the highest momentum.
      every: the number of steps with the same value.

    Example:
      >>> from jaxtrain.optim import schedules
      >>> schedule = schedules.sutskever_momentum(0.9, every=2)
      >>> [round(float(schedule(t)), 3) for t in range(12)]
      [0.5, 0.5, 0.75, 0.75, 0.833, 0.833, 0.875, 0.875, 0.9, 0.9, 0.9, 0.9]
    """
    if every < 1:
        raise ValueError(f"every={every} must be at least 1 step")

    def value(count: jax.typing.ArrayLike) -> jax.Array:
        t = jnp.asarray(count).astype(jnp.result_type(float))
        return jnp.minimum(1 - 0.5 / (jnp.floor(t / every) + 1), peak)

    return value
