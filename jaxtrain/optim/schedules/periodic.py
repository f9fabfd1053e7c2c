"""Schedules with restarts, cycles or a constant stretch: SGDR, cyclic, triangular, one-cycle, warm-up-stable-decay."""

import math
from collections.abc import Callable
from typing import Annotated, Literal

import jax
import jax.numpy as jnp

from jaxtrain.annotations import Fraction, Interval, NonNegativeFloat, PositiveFloat, PositiveInt, Steps
from jaxtrain.optim.schedules.base import Schedule, add_warmup

AtLeastOne = Annotated[float, Interval(least=1)]
PositiveFraction = Annotated[float, Interval(above=0, most=1)]


def sgdr(
    peak: NonNegativeFloat,
    *,
    period: Steps,
    period_factor: AtLeastOne = 1.0,
    peak_factor: PositiveFraction = 1.0,
    end: NonNegativeFloat = 0.0,
    warmup: Steps = 0,
) -> Schedule:
    """Build a cosine schedule with warm restarts; torch's `CosineAnnealingWarmRestarts`.

    Loshchilov & Hutter 2017, arXiv:1608.03983, equation 5.

    Args:
      peak: the value at the start of the first period.
      period: the number of steps of the first period; the periods begin at the end of the warm-up.
      period_factor: the ratio of the length of each period to that of the one before.
      peak_factor: the factor of the peak at each restart.
      end: the value at the end of each period.
      warmup: the number of steps in which the value rises linearly from 0.

    Example:
      >>> from jaxtrain.optim import schedules
      >>> schedule = schedules.sgdr(0.1, period=2, period_factor=2.0)
      >>> [round(float(schedule(t)), 3) for t in range(8)]
      [0.1, 0.05, 0.1, 0.085, 0.05, 0.015, 0.1, 0.096]
    """
    if period < 1:
        raise ValueError(f"period={period} must be at least 1 step")
    if end > peak:
        raise ValueError(f"end={end} is above peak={peak}; lower end or raise peak")

    def decay(t: jax.Array) -> jax.Array:
        since = jnp.maximum(t - warmup, 0)
        if period_factor == 1:
            number = jnp.floor(since / period)
            done = (since - number * period) / period
        else:
            # At a restart the logarithm is an integer; rounding must not put the step into the period before.
            grown = 1 + since * (period_factor - 1) / period
            number = jnp.floor(jnp.log(grown) / math.log(period_factor) + 1e-6)
            begin = period * (period_factor**number - 1) / (period_factor - 1)
            done = jnp.clip((since - begin) / (period * period_factor**number), 0, 1)
        top = jnp.maximum(peak * peak_factor**number, end)
        return end + (top - end) / 2 * (1 + jnp.cos(jnp.pi * done))

    return add_warmup(decay, peak, warmup)


def cyclic(peak: NonNegativeFloat, *, total: Steps, cycles: PositiveInt = 5) -> Schedule:
    """Build a schedule of equal cosine cycles; a snapshot of the model is taken at the end of each cycle.

        peak / 2 * (1 + cos(pi * mod(t, C) / C))     with C = ceil(total / cycles)

    Huang et al. 2017, arXiv:1704.00109, equation 2; their t counts from 1.

    Args:
      peak: the value at the start of each cycle.
      total: the number of steps of all cycles; a config takes the length of the run.
      cycles: the number of cycles.

    Example:
      >>> from jaxtrain.optim import schedules
      >>> schedule = schedules.cyclic(0.1, total=8, cycles=2)
      >>> [round(float(schedule(t)), 3) for t in range(9)]
      [0.1, 0.085, 0.05, 0.015, 0.1, 0.085, 0.05, 0.015, 0.0]
    """
    if total < cycles:
        raise ValueError(f"{total} steps are too few for {cycles} cycles; use fewer cycles")
    length = math.ceil(total / cycles)

    def value(count: jax.typing.ArrayLike) -> jax.Array:
        t = jnp.asarray(count).astype(jnp.result_type(float))
        done = jnp.where(t >= total, length, jnp.mod(t, length)) / length
        return peak / 2 * (1 + jnp.cos(jnp.pi * done))

    return value


def triangular(
    peak: NonNegativeFloat,
    *,
    low: NonNegativeFloat,
    half_period: Steps,
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular",
    decay: PositiveFraction = 1.0,
) -> Schedule:
    """Build a schedule that goes from `low` to `peak` and back in straight lines; torch's `CyclicLR`.

    Smith 2017, arXiv:1506.01186, section 3.

    Args:
      peak: the highest value.
      low: the lowest value, at step 0.
      half_period: the number of steps from `low` to `peak`.
      mode: the heights of the cycles: "triangular" keeps them, "triangular2" halves them with each cycle, "exp_range"
        multiplies them by `decay ** step`.
      decay: the factor per step for "exp_range".

    Example:
      >>> from jaxtrain.optim import schedules
      >>> schedule = schedules.triangular(0.1, low=0.0, half_period=2, mode="triangular2")
      >>> [round(float(schedule(t)), 3) for t in range(9)]
      [0.0, 0.05, 0.1, 0.05, 0.0, 0.025, 0.05, 0.025, 0.0]
    """
    if half_period < 1:
        raise ValueError(f"half_period={half_period} must be at least 1 step")
    if low > peak:
        raise ValueError(f"low={low} is above peak={peak}; lower low or raise peak")

    def value(count: jax.typing.ArrayLike) -> jax.Array:
        t = jnp.asarray(count).astype(jnp.result_type(float))
        cycle = jnp.floor(t / (2 * half_period))
        into = t - 2 * half_period * cycle  # integer steps, so that nothing is rounded before the division
        height = 1 - jnp.abs(into - half_period) / half_period
        if mode == "triangular2":
            height = height * 0.5**cycle
        elif mode == "exp_range":
            height = height * decay**t
        return low + (peak - low) * height

    return value


def one_cycle(
    peak: NonNegativeFloat,
    *,
    total: Steps,
    rise: PositiveFraction = 0.3,
    initial_divisor: PositiveFloat = 25.0,
    final_divisor: PositiveFloat = 1e4,
    anneal: Literal["cosine", "linear"] = "cosine",
) -> Schedule:
    """Build a one-cycle schedule: up to `peak`, then down far below the start; torch's `OneCycleLR`.

    It starts at `peak / initial_divisor` and ends at that value over `final_divisor`
    (Smith & Topin 2018, arXiv:1708.07120).

    Args:
      peak: the highest value.
      total: the number of steps of the cycle; the last one has the lowest value. A config takes the length of the run.
      rise: the fraction of the steps in which the value rises.
      initial_divisor: the ratio of `peak` to the value at step 0.
      final_divisor: the ratio of the value at step 0 to the value at the end.
      anneal: the form of the rise and of the fall.

    Example:
      >>> from jaxtrain.optim import schedules
      >>> schedule = schedules.one_cycle(0.1, total=10, rise=0.4)
      >>> [round(float(schedule(t)), 3) for t in range(10)]
      [0.004, 0.028, 0.076, 0.1, 0.093, 0.075, 0.05, 0.025, 0.007, 0.0]
    """
    top, last = rise * total - 1, total - 1
    if not 0 < top < last:
        raise ValueError(
            f"total={total} steps are too few for rise={rise:g}: each part needs a step; change total or rise"
        )
    first = peak / initial_divisor
    final = first / final_divisor

    def interpolate(a: float, b: float, done: jax.Array) -> jax.Array:
        return b + (a - b) / 2 * (1 + jnp.cos(jnp.pi * done)) if anneal == "cosine" else a + (b - a) * done

    def value(count: jax.typing.ArrayLike) -> jax.Array:
        t = jnp.asarray(count).astype(jnp.result_type(float))
        up = interpolate(first, peak, jnp.clip(t / top, 0, 1))
        down = interpolate(peak, final, jnp.clip((t - top) / (last - top), 0, 1))
        return jnp.where(t <= top, up, down)

    return value


_SHAPES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "linear": lambda done: 1 - done,
    "cosine": lambda done: (1 + jnp.cos(jnp.pi * done)) / 2,
    "sqrt": lambda done: 1 - jnp.sqrt(done),
}


def wsd(
    peak: NonNegativeFloat,
    *,
    total: Steps,
    decay: Steps,
    warmup: Steps = 0,
    shape: Literal["linear", "cosine", "sqrt"] = "linear",
    end: Fraction = 0.0,
) -> Schedule:
    """Build a warm-up-stable-decay schedule: constant at `peak`, with a decay over the last `decay` of `total` steps.

    Hu et al. 2024, arXiv:2404.06395, equation 1; Zhai et al. 2022, arXiv:2106.04560. The shape 1 - sqrt is that of
    Hagele et al. 2024 (arXiv:2405.18392).

    Args:
      peak: the value of the stable stretch.
      total: the step at which the decay ends; a config takes the length of the run.
      decay: the number of steps of the decay.
      warmup: the number of steps in which the value rises linearly from 0.
      shape: the form of the decay.
      end: the fraction of `peak` at step `total` and after.

    Example:
      >>> from jaxtrain.optim import schedules
      >>> schedule = schedules.wsd(0.1, total=8, decay=4, warmup=2)
      >>> [round(float(schedule(t)), 3) for t in range(9)]
      [0.0, 0.05, 0.1, 0.1, 0.1, 0.075, 0.05, 0.025, 0.0]
    """
    if not 0 < decay <= total - warmup:
        raise ValueError(
            f"a decay of {decay} steps does not fit between the end of the warm-up ({warmup} steps) and the end of the "
            f"schedule (total={total} steps); shorten decay or warmup"
        )

    def value(t: jax.Array) -> jax.Array:
        done = jnp.clip((t - (total - decay)) / decay, 0, 1)
        return peak * (end + (1 - end) * _SHAPES[shape](done))

    return add_warmup(value, peak, warmup)
