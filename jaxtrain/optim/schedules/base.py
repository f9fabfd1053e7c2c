"""What a schedule is; linear warm-up, linear scaling with the batch size, and the range of a schedule over a run."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.annotations import LearningRate, PositiveInt
from jaxtrain.config.duration import Clock

Schedule = Callable[[jax.typing.ArrayLike], jax.Array]
"""`step, a whole number from 0 -> value`, a floating-point scalar of the default precision; works inside jit."""


Rate = Callable[[Any, jax.Array], jax.Array]
"""`(state of the optimizer, updates made) -> learning rate`: what a plateau has reduced it to is in the state."""


def stateless_rate(schedule: Schedule) -> Rate:
    """Return a schedule as a function of the optimizer's state too, which it does not look at."""
    return lambda _, step: schedule(step)


def as_schedule(value: float | Schedule) -> Schedule:
    """A schedule as it is, a number as a constant one."""
    if callable(value):
        return value
    return after_warmup(lambda t: jnp.full_like(t, value), value, 0)


def after_warmup(schedule: Callable[[jax.Array], jax.Array], peak: float, warmup: int) -> Schedule:
    """`schedule` from step `warmup` on, and before it a line from 0 to `peak`; `schedule` sees the run's own steps."""

    def value(count: jax.typing.ArrayLike) -> jax.Array:
        t = jnp.asarray(count).astype(jnp.result_type(float))
        return jnp.where(t < warmup, peak / warmup * t, schedule(t)) if warmup else schedule(t)

    return value


def linear_scaling(
    learning_rate: LearningRate, *, batch_size: PositiveInt, base_batch_size: PositiveInt = 256
) -> LearningRate:
    """`learning_rate * batch_size / base_batch_size` (Goyal et al. 2017, arXiv:1706.02677, section 2.1).

    Args:
      learning_rate: a number or a schedule, for a batch of `base_batch_size`.
      batch_size: examples in a step.
      base_batch_size: examples in a step of the recipe that the rate is from.

    Returns:
      A number for a number, a schedule for a schedule.
    """
    factor = batch_size / base_batch_size
    if callable(learning_rate):
        schedule = learning_rate
        return lambda count: schedule(count) * factor
    return learning_rate * factor


def run_facts(clock: Clock) -> dict[str, Any]:
    """Return what a run supplies its schedules with: its length, its examples and its batch size."""
    return {"total": clock.total_steps, "examples": clock.examples, "batch_size": clock.batch_size}


def range_over_run(schedule: Schedule, clock: Clock) -> tuple[float, float]:
    """Return the least and the greatest value, at 1,024 steps spread over the run."""
    steps = np.unique(np.linspace(0, clock.total_steps or 0, 1024).astype(np.int32))
    values = np.asarray(jax.jit(jax.vmap(schedule))(steps))
    return float(values.min()), float(values.max())
