"""Schedules of momenta."""

import jax
import jax.numpy as jnp

from jaxtrain.annotations import Fraction, Steps
from jaxtrain.optim.schedules.base import Schedule


def sutskever_momentum(peak: Fraction = 0.99, *, every: Steps = 250) -> Schedule:
    """`min(1 - 2 ** (-1 - log2(floor(t / every) + 1)), peak)`: 1/2, 3/4, 5/6, 7/8 ... of a step each `every` steps.

    Sutskever et al. 2013, equation 5, which is `1 - 1 / (2 * (floor(t / every) + 1))`.

    Args:
      peak: the greatest momentum.
      every: steps at one value.
    """
    if every < 1:
        raise ValueError(f"every={every} steps is no time; it must be one step at least")

    def value(count: jax.typing.ArrayLike) -> jax.Array:
        t = jnp.asarray(count).astype(jnp.result_type(float))
        return jnp.minimum(1 - 0.5 / (jnp.floor(t / every) + 1), peak)

    return value
