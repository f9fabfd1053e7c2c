"""SAM: the gradient at the worst point nearby."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxtrain.config.annotations import InnerOptimizer, PositiveFloat
from jaxtrain.optim import trees


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
