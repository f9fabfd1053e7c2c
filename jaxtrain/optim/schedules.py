"""Learning-rate schedules: functions `step -> number` that run inside a jitted step. Steps count from 0."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxtrain.config.annotations import NonNegativeFloat, PositiveFloat, Steps

Schedule = Callable[[jax.typing.ArrayLike], jax.Array]
"""`step, a whole number -> value`, a floating-point scalar of the default precision."""


def constant(value: NonNegativeFloat, *, warmup: Steps = 0) -> Schedule:
    """`value` at every step, reached linearly from 0 over `warmup` steps."""
    return _after_warmup(lambda t: jnp.full_like(t, value), value, warmup)


def cosine(peak: NonNegativeFloat, *, total: Steps, warmup: Steps = 0, end: NonNegativeFloat = 0.0) -> Schedule:
    """Linear from 0 to `peak` over `warmup` steps, then `end + (peak - end) / 2 * (1 + cos(pi t / T))`.

    Here t counts from the end of the warm-up and T is what the warm-up leaves of `total`
    (Loshchilov & Hutter 2017, equation 5, one period).

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

    def decay(t: jax.Array) -> jax.Array:
        done = jnp.clip((t - warmup) / (total - warmup), 0, 1)
        return end + (peak - end) / 2 * (1 + jnp.cos(jnp.pi * done))

    return _after_warmup(decay, peak, warmup)


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

    def decay(t: jax.Array) -> jax.Array:
        passed = sum(((t >= b).astype(t.dtype) for b in boundaries), start=jnp.zeros_like(t))
        return peak * factor**passed

    return _after_warmup(decay, peak, warmup)


def as_schedule(learning_rate: float | Schedule) -> Schedule:
    """A schedule as it is, a number as a constant one."""
    return learning_rate if callable(learning_rate) else constant(learning_rate)


def _after_warmup(schedule: Callable[[jax.Array], jax.Array], peak: float, warmup: int) -> Schedule:
    """`schedule` from step `warmup` on, and before it a line from 0 to `peak`; `schedule` sees the run's own steps."""

    def value(count: jax.typing.ArrayLike) -> jax.Array:
        t = jnp.asarray(count).astype(jnp.result_type(float))
        return jnp.where(t < warmup, peak / warmup * t, schedule(t)) if warmup else schedule(t)

    return value
