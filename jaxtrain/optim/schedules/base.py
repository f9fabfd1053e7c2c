"""What a schedule is, and the linear warm-up that may precede any of them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Schedule = Callable[[jax.typing.ArrayLike], jax.Array]
"""`step, a whole number from 0 -> value`, a floating-point scalar of the default precision; works inside jit."""


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
