"""Learning-rate schedules: functions `step -> number` that run inside a jitted step. Steps count from 0."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxtrain.config.annotations import NonNegativeFloat, PositiveFloat, Steps

Schedule = Callable[[jax.typing.ArrayLike], jax.typing.ArrayLike]


def constant(value: NonNegativeFloat, *, warmup: Steps = 0) -> Schedule:
    """`value` at every step, reached linearly from 0 over `warmup` steps."""
    return optax.warmup_constant_schedule(0.0, value, warmup) if warmup else optax.constant_schedule(value)


def cosine(peak: NonNegativeFloat, *, total: Steps, warmup: Steps = 0, end: NonNegativeFloat = 0.0) -> Schedule:
    """Linear from 0 to `peak` over `warmup` steps, then `end + (peak - end) / 2 * (1 + cos(pi t / T))`.

    Args:
      peak: the highest value.
      total: step at which `end` is reached, the warm-up included; a config takes the length of the run.
      warmup: steps of the warm-up.
      end: the value at `total` and after.
    """
    if total <= warmup:
        raise ValueError(f"the schedule ends (total={total} steps) before its warm-up does (warmup={warmup} steps)")
    if end > peak:
        raise ValueError(f"end={end} lies above peak={peak}")
    if peak == 0:
        return optax.constant_schedule(0.0)
    if not warmup:
        return optax.cosine_decay_schedule(peak, total, alpha=end / peak)
    return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, total, end)


def step(
    peak: NonNegativeFloat, *, boundaries: tuple[Steps, ...], factor: PositiveFloat = 0.1, warmup: Steps = 0
) -> Schedule:
    """`peak`, multiplied by `factor` at each of `boundaries`; the boundaries count from the start of the run.

    Args:
      peak: the value after the warm-up.
      boundaries: steps, in ascending order, from which on one more factor applies.
      factor: what each boundary multiplies by.
      warmup: steps over which the value rises linearly from 0; must end before the first boundary.
    """
    if list(boundaries) != sorted(set(boundaries)):
        raise ValueError(f"boundaries must ascend, got steps {list(boundaries)}")
    if boundaries and boundaries[0] <= warmup:
        raise ValueError(f"the first boundary (step {boundaries[0]}) must lie after the warm-up ({warmup} steps)")
    pieces = optax.piecewise_constant_schedule(peak, {b: factor for b in boundaries})
    if not warmup:
        return pieces
    ramp = optax.linear_schedule(0.0, peak, warmup)
    return lambda count: jnp.where(count < warmup, ramp(count), pieces(count))


def as_schedule(learning_rate: float | Schedule) -> Schedule:
    """A schedule as it is, a number as a constant one."""
    return learning_rate if callable(learning_rate) else optax.constant_schedule(learning_rate)
