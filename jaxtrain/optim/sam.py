"""SAM: steps with the gradient at the worst point nearby."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxtrain.annotations import InnerOptimizer, PositiveFloat
from jaxtrain.optim import trees


def sam(
    inner: InnerOptimizer, *, rho: PositiveFloat = 0.05, adaptive: bool = False
) -> optax.GradientTransformationExtraArgs:
    """Build sharpness-aware minimization (Foret et al. 2021, algorithm 1, arXiv:2010.01412) around another optimizer.

        e = rho * g / |g|                     with `adaptive`: rho * x^2 g / |x g|
        x = x + the update of `inner` for the gradient at x + e

    A step computes two gradients, the second with the extra argument `value_fn`. Dropout masks and other random draws
    are the same for both, since they are drawn once per step.

    Args:
      inner: the optimizer that makes the step.
      rho: the distance of the worst point from x.
      adaptive: whether distances are relative to the parameters (Kwon et al. 2021, arXiv:2102.11600, equation 8).

    Example:
      Three steps on (x_1^2 + 3 x_2^2) / 2:

      >>> import jax, jax.numpy as jnp, jaxtrain, optax
      >>> objective = lambda x: jnp.sum(jnp.array([1.0, 3.0]) * x**2) / 2
      >>> tx = jaxtrain.optim.sam(jaxtrain.optim.sgd(0.1))
      >>> x = jnp.array([1.0, 1.0])
      >>> state = tx.init(x)
      >>> for _ in range(3):
      ...     updates, state = tx.update(jax.grad(objective)(x), state, x, value_fn=objective)
      ...     x = optax.apply_updates(x, updates)
      ...     print(jax.device_get(x).round(3))
      [0.898 0.686]
      [0.807 0.466]
      [0.723 0.313]
    """
    inner = optax.with_extra_args_support(inner)

    def worst_point(x: jax.Array, g: jax.Array, scale: jax.Array) -> jax.Array:
        x_wide, g_wide = x.astype(scale.dtype), g.astype(scale.dtype)
        return x + (scale * (x_wide * x_wide * g_wide if adaptive else g_wide)).astype(x.dtype)

    def update(updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra: Any) -> Any:
        value_fn = extra.get("value_fn")
        if value_fn is None or params is None:
            raise ValueError("sam needs the objective: call update(grads, state, params, value_fn=objective)")
        weighted = jax.tree.map(lambda x, g: x * g, params, updates) if adaptive else updates
        length = trees.norm(weighted)
        scale = jnp.where(length > 0, rho / jnp.where(length > 0, length, 1), 0).astype(length.dtype)
        above = jax.tree.map(lambda x, g: worst_point(x, g, scale), params, updates)
        return inner.update(jax.grad(value_fn)(above), state, params, **extra)

    return optax.GradientTransformationExtraArgs(inner.init, update)
