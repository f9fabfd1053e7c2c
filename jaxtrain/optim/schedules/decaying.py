"""Schedules that fall from a peak. Steps count from 0; a warm-up comes first where wanted, on the same clock."""

import math

import jax
import jax.numpy as jnp

from jaxtrain.annotations import InnerSchedule, NonNegativeFloat, PositiveFloat, PositiveInt, Steps
from jaxtrain.optim.schedules.base import Schedule, after_warmup


def constant(value: NonNegativeFloat, *, warmup: Steps = 0) -> Schedule:
    """`value` at every step, reached linearly from 0 over `warmup` steps."""
    return after_warmup(lambda t: jnp.full_like(t, value), value, warmup)


def step(peak: NonNegativeFloat, *, every: Steps, factor: PositiveFloat = 0.1, warmup: Steps = 0) -> Schedule:
    """`peak * factor ** floor(t / every)`: torch's `StepLR`.

    Args:
      peak: the value before the first drop.
      every: steps between two drops, counted from the start of the run.
      factor: what each drop multiplies by.
      warmup: steps over which the value rises linearly from 0.
    """
    return exponential(peak, factor=factor, every=every, staircase=True, warmup=warmup)


def multistep(
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

    return after_warmup(decay, peak, warmup)


def exponential(
    peak: NonNegativeFloat,
    *,
    factor: PositiveFloat,
    every: Steps,
    staircase: bool = False,
    end: NonNegativeFloat = 0.0,
    warmup: Steps = 0,
) -> Schedule:
    """`peak * factor ** (t / every)`, and not below `end`; GoogLeNet's is 0.96 every 8 epochs, as a staircase.

    Args:
      peak: the value at step 0, were there no warm-up.
      factor: what `every` steps multiply by.
      every: steps for one factor, counted from the start of the run.
      staircase: whether the factor applies at the end of each `every` steps at once.
      end: the lowest value.
      warmup: steps over which the value rises linearly from 0 to `peak`.
    """
    if every < 1:
        raise ValueError(f"every={every} steps is no time; it must be one step at least")
    if end > peak:
        raise ValueError(f"end={end} lies above peak={peak}")

    def decay(t: jax.Array) -> jax.Array:
        power = jnp.floor(t / every) if staircase else t / every
        return jnp.maximum(peak * factor**power, end)

    return after_warmup(decay, peak, warmup)


def linear(peak: NonNegativeFloat, *, total: Steps, warmup: Steps = 0, end: NonNegativeFloat = 0.0) -> Schedule:
    """Linear from 0 to `peak` over `warmup` steps, then linear to `end` at step `total`, the warm-up included.

    Args:
      peak: the highest value.
      total: step at which `end` is reached; a config takes the length of the run.
      warmup: steps of the warm-up.
      end: the value at `total` and after.
    """
    return polynomial(peak, total=total, power=1.0, warmup=warmup, end=end)


def polynomial(
    peak: NonNegativeFloat, *, total: Steps, power: PositiveFloat = 1.0, warmup: Steps = 0, end: NonNegativeFloat = 0.0
) -> Schedule:
    """`end + (peak - end) * (1 - t / T) ** power`, t and T counted from the end of the warm-up.

    Args:
      peak: the highest value.
      total: step at which `end` is reached, the warm-up included; a config takes the length of the run.
      power: 1 is a line; above 1 the value falls faster at first.
      warmup: steps of the warm-up.
      end: the value at `total` and after.
    """
    _check_decay(peak, total, warmup, end)
    return after_warmup(lambda t: end + (peak - end) * (1 - _done(t, total, warmup)) ** power, peak, warmup)


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
    _check_decay(peak, total, warmup, end)

    def decay(t: jax.Array) -> jax.Array:
        return end + (peak - end) / 2 * (1 + jnp.cos(jnp.pi * _done(t, total, warmup)))

    return after_warmup(decay, peak, warmup)


def inverse_sqrt(peak: NonNegativeFloat, *, warmup: Steps = 0) -> Schedule:
    """`peak / sqrt(t)`, and `peak` at steps 0 and 1; with a warm-up, `peak * sqrt(warmup / t)` after it.

    With a warm-up it is that of Vaswani et al. 2017, equation 3, with `peak` for what their constants come to.

    Args:
      peak: the highest value.
      warmup: steps over which the value rises linearly from 0.
    """
    since = max(warmup, 1)
    return after_warmup(lambda t: peak * jnp.sqrt(since / jnp.maximum(t, since)), peak, warmup)


def per_epoch(schedule: InnerSchedule, *, examples: PositiveInt, batch_size: PositiveInt) -> Schedule:
    """`schedule` at the first step of each epoch, kept to its end.

    An epoch need not be a whole number of steps: step t belongs to epoch floor(t * batch_size / examples), as in the
    loader, and nothing drifts.

    Args:
      schedule: another schedule.
      examples: examples in an epoch; a config takes those of the training split.
      batch_size: examples in a step; a config takes its own.
    """
    shared = math.gcd(examples, batch_size)
    n, b = examples // shared, batch_size // shared
    if n * b >= 2**31:
        raise ValueError(f"{examples} examples in batches of {batch_size} are more than the step counter can hold")

    def value(count: jax.typing.ArrayLike) -> jax.Array:
        t = jnp.asarray(count).astype(jnp.int32)
        rounds, rest = t // n, t % n  # n steps are b epochs; what is left cannot overflow
        epoch = rest * b // n
        result: jax.Array = schedule(rounds * n + -(-epoch * n // b))
        return result

    return value


def _check_decay(peak: float, total: int, warmup: int, end: float) -> None:
    if total <= warmup:
        raise ValueError(f"the schedule ends (total={total} steps) before its warm-up does (warmup={warmup} steps)")
    if end > peak:
        raise ValueError(f"end={end} lies above peak={peak}")


def _done(t: jax.Array, total: int, warmup: int) -> jax.Array:
    """The fraction of the decay that has passed, in [0, 1]."""
    return jnp.clip((t - warmup) / (total - warmup), 0, 1)
