"""Schedules that fall from a peak. Steps count from 0 at the start of the run and include an optional warm-up."""

import math

import jax
import jax.numpy as jnp

from jaxtrain.annotations import InnerSchedule, NonNegativeFloat, PositiveFloat, PositiveInt, Steps
from jaxtrain.optim.schedules.base import Schedule, add_warmup


def constant(value: NonNegativeFloat, *, warmup: Steps = 0) -> Schedule:
    """Build a constant schedule, with an optional linear warm-up.

    Args:
      value: the value after the warm-up.
      warmup: the number of steps in which the value rises linearly from 0.

    Example:
      >>> from jaxtrain.optim import schedules
      >>> schedule = schedules.constant(0.1, warmup=4)
      >>> [round(float(schedule(t)), 3) for t in range(6)]
      [0.0, 0.025, 0.05, 0.075, 0.1, 0.1]
    """
    return add_warmup(lambda t: jnp.full_like(t, value), value, warmup)


def step(peak: NonNegativeFloat, *, every: Steps, factor: PositiveFloat = 0.1, warmup: Steps = 0) -> Schedule:
    """Build a step schedule, `peak * factor ** floor(t / every)`; torch's `StepLR`.

    Args:
      peak: the value before the first drop.
      every: the number of steps between two drops, counted from the start of the run.
      factor: the factor of each drop.
      warmup: the number of steps in which the value rises linearly from 0.

    Example:
      >>> from jaxtrain.optim import schedules
      >>> schedule = schedules.step(0.1, every=3, factor=0.5)
      >>> [round(float(schedule(t)), 3) for t in range(8)]
      [0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.025, 0.025]
    """
    return exponential(peak, factor=factor, every=every, staircase=True, warmup=warmup)


def multistep(
    peak: NonNegativeFloat, *, boundaries: tuple[Steps, ...], factor: PositiveFloat = 0.1, warmup: Steps = 0
) -> Schedule:
    """Build a schedule that multiplies `peak` by `factor` at each of `boundaries`; torch's `MultiStepLR`.

    Args:
      peak: the value after the warm-up.
      boundaries: steps in ascending order, counted from the start of the run; each applies the factor from this step
        on.
      factor: the factor of each boundary.
      warmup: the number of steps in which the value rises linearly from 0; it must end before the first boundary.

    Example:
      >>> from jaxtrain.optim import schedules
      >>> schedule = schedules.multistep(1.0, boundaries=(3, 6))
      >>> [round(float(schedule(t)), 3) for t in range(8)]
      [1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.01, 0.01]
    """
    if list(boundaries) != sorted(set(boundaries)):
        raise ValueError(f"boundaries must ascend strictly, got steps {list(boundaries)}")
    if boundaries and boundaries[0] <= warmup:
        raise ValueError(f"the first boundary (step {boundaries[0]}) must come after the warm-up ({warmup} steps)")

    def decay(t: jax.Array) -> jax.Array:
        passed = sum(((t >= b).astype(t.dtype) for b in boundaries), start=jnp.zeros_like(t))
        return peak * factor**passed

    return add_warmup(decay, peak, warmup)


def exponential(
    peak: NonNegativeFloat,
    *,
    factor: PositiveFloat,
    every: Steps,
    staircase: bool = False,
    end: NonNegativeFloat = 0.0,
    warmup: Steps = 0,
) -> Schedule:
    """Build an exponential schedule, `max(peak * factor ** (t / every), end)`.

    GoogLeNet's has the factor 0.96 every 8 epochs, as a staircase.

    Args:
      peak: the value at step 0 if there is no warm-up.
      factor: the factor of `every` steps.
      every: the number of steps for one factor, counted from the start of the run.
      staircase: whether the factor applies at once at the end of each `every` steps.
      end: the lowest value.
      warmup: the number of steps in which the value rises linearly from 0 to `peak`.

    Example:
      >>> from jaxtrain.optim import schedules
      >>> schedule = schedules.exponential(0.1, factor=0.5, every=4)
      >>> [round(float(schedule(t)), 3) for t in range(9)]
      [0.1, 0.084, 0.071, 0.059, 0.05, 0.042, 0.035, 0.03, 0.025]
    """
    if every < 1:
        raise ValueError(f"every={every} must be at least 1 step")
    if end > peak:
        raise ValueError(f"end={end} is above peak={peak}; lower end or raise peak")

    def decay(t: jax.Array) -> jax.Array:
        power = jnp.floor(t / every) if staircase else t / every
        return jnp.maximum(peak * factor**power, end)

    return add_warmup(decay, peak, warmup)


def linear(peak: NonNegativeFloat, *, total: Steps, warmup: Steps = 0, end: NonNegativeFloat = 0.0) -> Schedule:
    """Build a linear schedule: from 0 to `peak` during the warm-up, then to `end` at step `total`.

    Args:
      peak: the highest value.
      total: the step at which `end` is reached, the warm-up included; a config takes the length of the run.
      warmup: the number of steps in which the value rises linearly from 0.
      end: the value at `total` and after.

    Example:
      >>> from jaxtrain.optim import schedules
      >>> schedule = schedules.linear(0.1, total=6, warmup=2)
      >>> [round(float(schedule(t)), 3) for t in range(8)]
      [0.0, 0.05, 0.1, 0.075, 0.05, 0.025, 0.0, 0.0]
    """
    return polynomial(peak, total=total, power=1.0, warmup=warmup, end=end)


def polynomial(
    peak: NonNegativeFloat, *, total: Steps, power: PositiveFloat = 1.0, warmup: Steps = 0, end: NonNegativeFloat = 0.0
) -> Schedule:
    """Build a polynomial schedule, `end + (peak - end) * (1 - t / T) ** power`.

    Here t counts from the end of the warm-up, and T is `total` minus the warm-up.

    Args:
      peak: the highest value.
      total: the step at which `end` is reached, the warm-up included; a config takes the length of the run.
      power: the power; 1 gives a line, above 1 the value falls faster at first.
      warmup: the number of steps in which the value rises linearly from 0.
      end: the value at `total` and after.

    Example:
      >>> from jaxtrain.optim import schedules
      >>> schedule = schedules.polynomial(0.1, total=5, power=2.0)
      >>> [round(float(schedule(t)), 3) for t in range(7)]
      [0.1, 0.064, 0.036, 0.016, 0.004, 0.0, 0.0]
    """
    _check_decay(peak, total, warmup, end)
    return add_warmup(lambda t: end + (peak - end) * (1 - _decay_fraction(t, total, warmup)) ** power, peak, warmup)


def cosine(peak: NonNegativeFloat, *, total: Steps, warmup: Steps = 0, end: NonNegativeFloat = 0.0) -> Schedule:
    """Build a cosine schedule, `end + (peak - end) / 2 * (1 + cos(pi t / T))`, with an optional linear warm-up.

    Here t counts from the end of the warm-up, and T is `total` minus the warm-up
    (Loshchilov & Hutter 2017, arXiv:1608.03983, equation 5, one period; warm-up: Goyal et al. 2017, arXiv:1706.02677).

    Args:
      peak: the highest value.
      total: the step at which `end` is reached, the warm-up included; a config takes the length of the run.
      warmup: the number of steps in which the value rises linearly from 0.
      end: the value at `total` and after.

    Example:
      >>> from jaxtrain.optim import schedules
      >>> schedule = schedules.cosine(0.1, total=8, warmup=2)
      >>> [round(float(schedule(t)), 3) for t in range(10)]
      [0.0, 0.05, 0.1, 0.093, 0.075, 0.05, 0.025, 0.007, 0.0, 0.0]
    """
    _check_decay(peak, total, warmup, end)

    def decay(t: jax.Array) -> jax.Array:
        return end + (peak - end) / 2 * (1 + jnp.cos(jnp.pi * _decay_fraction(t, total, warmup)))

    return add_warmup(decay, peak, warmup)


def inverse_sqrt(peak: NonNegativeFloat, *, warmup: Steps = 0) -> Schedule:
    """Build an inverse square root schedule, `peak * sqrt(warmup / t)` after the warm-up.

    Without a warm-up it is `peak / sqrt(t)`, and `peak` at steps 0 and 1. With one it is that of Vaswani et al. 2017
    (arXiv:1706.03762, equation 3), with `peak` in place of the value of their constants.

    Args:
      peak: the highest value.
      warmup: the number of steps in which the value rises linearly from 0.

    Example:
      >>> from jaxtrain.optim import schedules
      >>> schedule = schedules.inverse_sqrt(0.1, warmup=2)
      >>> [round(float(schedule(t)), 3) for t in range(9)]
      [0.0, 0.05, 0.1, 0.082, 0.071, 0.063, 0.058, 0.053, 0.05]
    """
    since = max(warmup, 1)
    return add_warmup(lambda t: peak * jnp.sqrt(since / jnp.maximum(t, since)), peak, warmup)


def per_epoch(schedule: InnerSchedule, *, examples: PositiveInt, batch_size: PositiveInt) -> Schedule:
    """Build a schedule that takes the value of `schedule` at the first step of each epoch and keeps it until its end.

    An epoch need not be an integer number of steps. Step t belongs to epoch floor(t * batch_size / examples), as in the
    loader, so there is no drift.

    Args:
      schedule: another schedule.
      examples: the number of examples in an epoch; a config takes that of the training split.
      batch_size: the number of examples in a step; a config takes its own.

    Example:
      >>> from jaxtrain.optim import schedules
      >>> schedule = schedules.per_epoch(schedules.linear(0.1, total=10), examples=30, batch_size=10)
      >>> [round(float(schedule(t)), 3) for t in range(8)]
      [0.1, 0.1, 0.1, 0.07, 0.07, 0.07, 0.04, 0.04]
    """
    divisor = math.gcd(examples, batch_size)
    n, b = examples // divisor, batch_size // divisor
    if n * b >= 2**31:
        raise ValueError(f"{examples} examples in batches of {batch_size} are more than the step counter can hold")

    def value(count: jax.typing.ArrayLike) -> jax.Array:
        t = jnp.asarray(count).astype(jnp.int32)
        cycles, remainder = t // n, t % n  # n steps are b epochs; the remainder cannot overflow
        epoch = remainder * b // n
        result: jax.Array = schedule(cycles * n + -(-epoch * n // b))
        return result

    return value


def _check_decay(peak: float, total: int, warmup: int, end: float) -> None:
    if total <= warmup:
        raise ValueError(f"the schedule must end after its warm-up: total={total} steps, warmup={warmup} steps")
    if end > peak:
        raise ValueError(f"end={end} is above peak={peak}; lower end or raise peak")


def _decay_fraction(t: jax.Array, total: int, warmup: int) -> jax.Array:
    """Return the fraction of the decay that has passed, in [0, 1]."""
    return jnp.clip((t - warmup) / (total - warmup), 0, 1)
