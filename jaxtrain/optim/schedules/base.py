"""The type of a schedule, linear warm-up, linear scaling with the batch size, and the range of values over a run."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.annotations import LearningRate, PositiveInt
from jaxtrain.config.duration import RunLength

Schedule = Callable[[jax.typing.ArrayLike], jax.Array]
"""Function `step -> value`: from an integer from 0 to a scalar of the default float dtype; works inside jit."""


Rate = Callable[[Any, jax.Array], jax.Array]
"""Function `(state of the optimizer, updates made) -> learning rate`; a plateau's rate is in the state."""


def stateless_rate(schedule: Schedule) -> Rate:
    """Return a schedule as a function of the optimizer's state and the step; it ignores the state."""
    return lambda _, step: schedule(step)


def as_schedule(value: float | Schedule) -> Schedule:
    """Return a schedule unchanged, and a number as a constant schedule."""
    if callable(value):
        return value
    return add_warmup(lambda t: jnp.full_like(t, value), value, 0)


def add_warmup(schedule: Callable[[jax.Array], jax.Array], peak: float, warmup: int) -> Schedule:
    """Return a schedule that rises linearly from 0 to `peak` until step `warmup` and then follows `schedule`.

    `schedule` receives the step of the run, which includes the warm-up.
    """

    def value(count: jax.typing.ArrayLike) -> jax.Array:
        t = jnp.asarray(count).astype(jnp.result_type(float))
        return jnp.where(t < warmup, peak / warmup * t, schedule(t)) if warmup else schedule(t)

    return value


def linear_scaling(
    learning_rate: LearningRate, *, batch_size: PositiveInt, base_batch_size: PositiveInt = 256
) -> LearningRate:
    """Scale a learning rate linearly with the batch size (Goyal et al. 2017, arXiv:1706.02677, section 2.1).

    The result is `learning_rate * batch_size / base_batch_size`.

    Args:
      learning_rate: a number or a schedule, for a batch of `base_batch_size`.
      batch_size: the number of examples in a step.
      base_batch_size: the number of examples in a step of the recipe with this learning rate.

    Returns:
      A number for a number, a schedule for a schedule.
    """
    factor = batch_size / base_batch_size
    if callable(learning_rate):
        schedule = learning_rate
        return lambda count: schedule(count) * factor
    return learning_rate * factor


def schedule_arguments(clock: RunLength) -> dict[str, Any]:
    """Return the arguments that a run supplies to its schedules: its length, its examples and its batch size."""
    return {"total": clock.total_steps, "examples": clock.examples, "batch_size": clock.batch_size}


def range_over_run(schedule: Schedule, clock: RunLength) -> tuple[float, float]:
    """Return the lowest and the highest value of a schedule at 1,024 steps spread over the run."""
    steps = np.unique(np.linspace(0, clock.total_steps or 0, 1024).astype(np.int32))
    values = np.asarray(jax.jit(jax.vmap(schedule))(steps))
    return float(values.min()), float(values.max())
