"""Optimizers around another optimizer: SAM, lookahead, schedule-free."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.config.annotations import (
    InnerOptimizer,
    Interval,
    LearningRate,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
)
from jaxtrain.optim import trees
from jaxtrain.optim.schedules import as_schedule

Share = Annotated[float, Interval(above=0, most=1)]
Inside = Annotated[float, Interval(above=0, below=1)]


def sam(
    inner: InnerOptimizer, *, rho: PositiveFloat = 0.05, adaptive: bool = False
) -> optax.GradientTransformationExtraArgs:
    """Sharpness-aware minimization (Foret et al. 2021, algorithm 1): `inner` with the gradient at x + rho * g / |g|.

    A step takes two gradients, the second of the extra argument `value_fn`. Dropout masks and the like are the same
    for both, since they are drawn once a step.

    Args:
      inner: the optimizer that makes the step.
      rho: how far up the worst point is looked for.
      adaptive: in distances relative to the parameters, x + rho * x^2 g / |x g| (Kwon et al. 2021, arXiv:2102.11600,
        equation 8).
    """
    inner = optax.with_extra_args_support(inner)

    def worst(x: jax.Array, g: jax.Array, scale: jax.Array) -> jax.Array:
        x_wide, g_wide = x.astype(scale.dtype), g.astype(scale.dtype)
        return x + (scale * (x_wide * x_wide * g_wide if adaptive else g_wide)).astype(x.dtype)

    def update(updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra: Any) -> Any:
        value_fn = extra.get("value_fn")
        if value_fn is None or params is None:
            raise ValueError("sam needs the objective: call update(grads, state, params, value_fn=objective)")
        scaled = jax.tree.map(lambda x, g: x * g, params, updates) if adaptive else updates
        length = trees.norm(scaled)
        scale = jnp.where(length > 0, rho / jnp.where(length > 0, length, 1), 0).astype(length.dtype)
        above = jax.tree.map(lambda x, g: worst(x, g, scale), params, updates)
        return inner.update(jax.grad(value_fn)(above), state, params, **extra)

    return optax.GradientTransformationExtraArgs(inner.init, update)


class LookaheadState(NamedTuple):
    """State of `lookahead`: of the optimizer inside, the slow weights, and int32[] updates made."""

    inner: Any
    slow: Any
    step: jax.Array

    def evaluation_params(self, params: Any) -> Any:
        """The slow weights."""
        return jax.tree.map(lambda s, p: p if _is_masked(s) else s, self.slow, params, is_leaf=_is_masked)


def lookahead(
    inner: InnerOptimizer, *, sync_period: PositiveInt = 6, slow_step: Share = 0.5
) -> optax.GradientTransformationExtraArgs:
    """Lookahead (Zhang et al. 2019, algorithm 1): every k-th step the weights return to a point on the way.

    After each `sync_period` steps of `inner`: slow += slow_step * (fast - slow), fast = slow. Evaluation uses the slow
    weights.

    Args:
      inner: the optimizer of the fast weights, whose state runs on.
      sync_period: k of the paper.
      slow_step: alpha of the paper.
    """
    inner = optax.with_extra_args_support(inner)

    def init(params: optax.Params) -> LookaheadState:
        return LookaheadState(inner.init(params), jax.tree.map(jnp.array, params), jnp.int32(0))

    def update(
        updates: optax.Updates, state: LookaheadState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, LookaheadState]:
        if params is None:
            raise ValueError("lookahead needs the parameters: call update(grads, state, params)")
        updates, inside = inner.update(updates, state.inner, params, **extra)
        due = (state.step + 1) % sync_period == 0
        ahead = jax.tree.map(lambda s, p, u: s + slow_step * (p + u - s), state.slow, params, updates)
        slow = jax.tree.map(lambda new, old: jnp.where(due, new, old), ahead, state.slow)
        updates = jax.tree.map(lambda s, p, u: jnp.where(due, s - p, u), slow, params, updates)
        return updates, LookaheadState(inside, slow, state.step + 1)

    return optax.GradientTransformationExtraArgs(init, update)


class ScheduleFreeState(NamedTuple):
    """State of `schedule_free`.

    Attributes:
      inner: of the optimizer inside.
      z: the iterate that it moves, like the parameters.
      weight: f[], the sum of the weights of the average.
      highest: f[], the highest learning rate so far.
      b1: f[], the interpolation.
      step: int32[], updates made.
    """

    inner: Any
    z: Any
    weight: jax.Array
    highest: jax.Array
    b1: jax.Array
    step: jax.Array

    def evaluation_params(self, params: Any) -> Any:
        """The average x, from y = (1 - b1) * z + b1 * x, which is trained."""

        def x(z: Any, y: jax.Array) -> jax.Array:
            b1 = self.b1.astype(y.dtype)
            return y if _is_masked(z) else (y - (1 - b1) * z) / b1

        return jax.tree.map(x, self.z, params, is_leaf=_is_masked)


def schedule_free(
    inner: InnerOptimizer,
    *,
    learning_rate: LearningRate,
    b1: Inside = 0.9,
    weight_power: NonNegativeFloat = 2.0,
) -> optax.GradientTransformationExtraArgs:
    """Schedule-free learning (Defazio et al. 2024, equations 3 to 5) around an optimizer without momentum.

    `inner` moves z; x is the average of all z; what is trained is y = (1 - b1) * z + b1 * x. Evaluation uses x.

    Args:
      inner: an optimizer without momentum, at a constant rate, warmed up where wanted: `sgd`, or `adam` with b1=0.
      learning_rate: the same as that of `inner`; a z weighs as the highest rate so far to `weight_power`.
      b1: the interpolation, which takes the place of momentum.
      weight_power: 0 weighs all alike; 2 discounts a warm-up.
    """
    inner, schedule = optax.with_extra_args_support(inner), as_schedule(learning_rate)

    def init(params: optax.Params) -> ScheduleFreeState:
        z = jax.tree.map(jnp.array, params)
        weight, highest, mix = (jnp.asarray(value, jnp.result_type(float)) for value in (0, 0, b1))
        return ScheduleFreeState(inner.init(params), z, weight, highest, mix, jnp.int32(0))

    def update(
        updates: optax.Updates, state: ScheduleFreeState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, ScheduleFreeState]:
        if params is None:
            raise ValueError("schedule_free needs the parameters: call update(grads, state, params)")
        updates, inside = inner.update(updates, state.inner, params, **extra)
        highest = jnp.maximum(state.highest, jnp.asarray(schedule(state.step)).astype(state.highest.dtype))
        weight = highest**weight_power
        total = state.weight + weight
        share = jnp.where(total > 0, weight / jnp.where(total > 0, total, 1), 0)

        def step(y: jax.Array, z: jax.Array, u: jax.Array) -> jax.Array:
            mix, c = (jnp.asarray(v).astype(y.dtype) for v in (b1, share))
            x = (y - (1 - mix) * z) / mix
            x = (1 - c) * x + c * (z + u)
            return mix * x + (1 - mix) * (z + u) - y

        change = jax.tree.map(step, params, state.z, updates)
        z = jax.tree.map(jnp.add, state.z, updates)
        return change, ScheduleFreeState(inside, z, total, highest, state.b1, state.step + 1)

    return optax.GradientTransformationExtraArgs(init, update)


def _is_masked(x: Any) -> bool:
    return isinstance(x, optax.MaskedNode)
