"""Schedules that go down and up, or hold: restarts, cycles, one cycle, warm-up-stable-decay."""

import math
from collections.abc import Callable
from typing import Annotated, Literal

import jax
import jax.numpy as jnp

from jaxtrain.annotations import Fraction, Interval, NonNegativeFloat, PositiveFloat, PositiveInt, Steps
from jaxtrain.optim.schedules.base import Schedule, after_warmup

AtLeastOne = Annotated[float, Interval(least=1)]
Share = Annotated[float, Interval(above=0, most=1)]


def sgdr(
    peak: NonNegativeFloat,
    *,
    period: Steps,
    period_factor: AtLeastOne = 1.0,
    peak_factor: Share = 1.0,
    end: NonNegativeFloat = 0.0,
    warmup: Steps = 0,
) -> Schedule:
    """Cosine with warm restarts (Loshchilov & Hutter 2017, equation 5); torch's `CosineAnnealingWarmRestarts`.

    Args:
      peak: the value at the start of the first period.
      period: steps of the first period; the periods begin at the end of the warm-up.
      period_factor: how much longer each period is than the one before.
      peak_factor: how much of the peak is left at each restart.
      end: the value that each period falls to.
      warmup: steps over which the value rises linearly from 0.
    """
    if period < 1:
        raise ValueError(f"period={period} steps is no time; it must be one step at least")
    if end > peak:
        raise ValueError(f"end={end} lies above peak={peak}")

    def decay(t: jax.Array) -> jax.Array:
        since = jnp.maximum(t - warmup, 0)
        if period_factor == 1:
            number = jnp.floor(since / period)
            done = (since - number * period) / period
        else:
            # a restart is where the logarithm is whole; rounding must not put it in the period before
            grown = 1 + since * (period_factor - 1) / period
            number = jnp.floor(jnp.log(grown) / math.log(period_factor) + 1e-6)
            begin = period * (period_factor**number - 1) / (period_factor - 1)
            done = jnp.clip((since - begin) / (period * period_factor**number), 0, 1)
        top = jnp.maximum(peak * peak_factor**number, end)
        return end + (top - end) / 2 * (1 + jnp.cos(jnp.pi * done))

    return after_warmup(decay, peak, warmup)


def cyclic(peak: NonNegativeFloat, *, total: Steps, cycles: PositiveInt = 5) -> Schedule:
    """`peak / 2 * (1 + cos(pi * mod(t, C) / C))` with `C = ceil(total / cycles)`: a snapshot ends each cycle.

    Huang et al. 2017, equation 2 (whose t counts from 1).

    Args:
      peak: the value at the start of each cycle.
      total: steps of all cycles; a config takes the length of the run.
      cycles: how many there are.
    """
    if total < cycles:
        raise ValueError(f"{total} steps are too few for {cycles} cycles")
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
    decay: Share = 1.0,
) -> Schedule:
    """From `low` to `peak` and back in straight lines (Smith 2017, section 3); torch's `CyclicLR`.

    Args:
      peak: the highest value.
      low: the lowest value, at step 0.
      half_period: steps from `low` to `peak`.
      mode: "triangular2" halves the height with each cycle, "exp_range" multiplies it by `decay ** step`.
      decay: of "exp_range".
    """
    if half_period < 1:
        raise ValueError(f"half_period={half_period} steps is no time; it must be one step at least")
    if low > peak:
        raise ValueError(f"low={low} lies above peak={peak}")

    def value(count: jax.typing.ArrayLike) -> jax.Array:
        t = jnp.asarray(count).astype(jnp.result_type(float))
        cycle = jnp.floor(t / (2 * half_period))
        into = t - 2 * half_period * cycle  # whole steps, so that nothing is rounded before the division
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
    rise: Share = 0.3,
    initial_divisor: PositiveFloat = 25.0,
    final_divisor: PositiveFloat = 1e4,
    anneal: Literal["cosine", "linear"] = "cosine",
) -> Schedule:
    """Up from `peak / initial_divisor`, and down to that over `final_divisor`; torch's `OneCycleLR`.

    Smith & Topin 2018.

    Args:
      peak: the highest value.
      total: steps of the cycle, the last of which has the lowest value; a config takes the length of the run.
      rise: share of the steps in which the value rises.
      initial_divisor: what `peak` is divided by at step 0.
      final_divisor: what that is divided by at the end.
      anneal: the form of both ways.
    """
    top, last = rise * total - 1, total - 1
    if not 0 < top < last:
        raise ValueError(f"{total} steps are too few to rise in {rise:g} of them and to fall in the rest")
    first = peak / initial_divisor
    final = first / final_divisor

    def between(a: float, b: float, done: jax.Array) -> jax.Array:
        return b + (a - b) / 2 * (1 + jnp.cos(jnp.pi * done)) if anneal == "cosine" else a + (b - a) * done

    def value(count: jax.typing.ArrayLike) -> jax.Array:
        t = jnp.asarray(count).astype(jnp.result_type(float))
        up = between(first, peak, jnp.clip(t / top, 0, 1))
        down = between(peak, final, jnp.clip((t - top) / (last - top), 0, 1))
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
    """Warm-up, a stable stretch at `peak`, and a decay over the last `decay` of `total` steps.

    Hu et al. 2024, equation 1; the form 1 - sqrt is that of Hagele et al. 2024 (arXiv:2405.18392).

    Args:
      peak: the value of the stable stretch.
      total: step at which the decay ends; a config takes the length of the run.
      decay: steps of the decay.
      warmup: steps over which the value rises linearly from 0.
      shape: the form of the decay.
      end: what is left of `peak` at `total` and after, as a fraction.
    """
    if not 0 < decay <= total - warmup:
        raise ValueError(
            f"a decay of {decay} steps does not fit between the end of the warm-up ({warmup} steps) and the end of the "
            f"schedule (total={total} steps)"
        )

    def value(t: jax.Array) -> jax.Array:
        done = jnp.clip((t - (total - decay)) / decay, 0, 1)
        return peak * (end + (1 - end) * _SHAPES[shape](done))

    return after_warmup(value, peak, warmup)
