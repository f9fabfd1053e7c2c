"""BFGS: a dense approximation of the inverse Hessian from differences of gradients."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.annotations import NonNegativeFloat, PositiveInt
from jaxtrain.optim import trees
from jaxtrain.optim.chain import cast_like
from jaxtrain.optim.lbfgs import require_objective
from jaxtrain.optim.line_search import LineSearchKind, search


class BfgsState(NamedTuple):
    """State of `bfgs`, with N parameters.

    Attributes:
      inverse: f[N, N], the approximation of the inverse Hessian.
      params: f[N], the parameters before the latest update.
      gradient: f[N], the gradient before the latest update.
      value: f[], the objective after the latest update; infinite before the first.
      grad: the gradient after the latest update, like the parameters; for `optax.value_and_grad_from_state`.
      evaluations: int32[], the number of evaluations of the objective in all updates.
      known: bool[], whether there is a latest update.
      fresh: bool[], whether the inverse is still the identity.
    """

    inverse: jax.Array
    params: jax.Array
    gradient: jax.Array
    value: jax.Array
    grad: Any
    evaluations: jax.Array
    known: jax.Array
    fresh: jax.Array


def bfgs(
    *,
    line_search: LineSearchKind = "strong_wolfe",
    max_evaluations: PositiveInt = 20,
    curvature_eps: NonNegativeFloat = 1e-10,
    max_parameters: PositiveInt = 10_000,
) -> optax.GradientTransformationExtraArgs:
    """Build BFGS (Nocedal & Wright 2006, algorithm 6.1; Broyden, Fletcher, Goldfarb, Shanno 1970).

    With the step s, the change y of the gradient and the step length t of a line search:

        x' = x - t H g
        H' = (I - s y' / s'y) H (I - y s' / s'y) + s s' / s'y     (equation 6.17)

    Before the first update of H, H is (s'y / y'y) I (equation 6.20). An update without curvature,
    s'y <= curvature_eps |s| |y|, is skipped. If the direction does not descend, or the search fails, H is reset to the
    identity.

    The objective must be the same at each step: the full batch, no dropout, no augmentation.
    `update` needs `params` and `value_fn`, and accepts `value`.

    Args:
      line_search: the kind of line search, "strong_wolfe" (c1 = 1e-4, c2 = 0.9) or "armijo".
      max_evaluations: the largest number of evaluations of the objective in a line search.
      curvature_eps: the least cosine of s and y for an update of H.
      max_parameters: the largest number N of parameters, since H has N^2 elements; more raise an error.

    Example:
      Three steps on (x_1^2 + 3 x_2^2) / 2:

      >>> import jax, jax.numpy as jnp, jaxtrain, optax
      >>> def objective(x):
      ...     return jnp.sum(jnp.array([1.0, 3.0]) * x**2) / 2
      >>> tx = jaxtrain.optim.bfgs()
      >>> @jax.jit
      ... def step(x, state):
      ...     updates, state = tx.update(jax.grad(objective)(x), state, x, value_fn=objective)
      ...     return optax.apply_updates(x, updates), state
      >>> x = jnp.array([1.0, 1.0])
      >>> state = tx.init(x)
      >>> for _ in range(3):
      ...     x, state = step(x, state)
      ...     print(jax.device_get(x).round(3))
      [0.684 0.051]
      [ 0.408 -0.045]
      [ 0.041 -0.039]
    """

    def init(params: optax.Params) -> BfgsState:
        check_size("bfgs", params, max_parameters)
        vector, _ = trees.ravel(params)
        return BfgsState(
            inverse=jnp.eye(vector.size, dtype=vector.dtype),
            params=jnp.zeros_like(vector),
            gradient=jnp.zeros_like(vector),
            value=jnp.asarray(jnp.inf, vector.dtype),
            grad=trees.zeros(params),
            evaluations=jnp.int32(0),
            known=jnp.bool_(False),
            fresh=jnp.bool_(True),
        )

    def update(
        updates: optax.Updates, state: BfgsState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, BfgsState]:
        value_fn, value = require_objective("bfgs", params, extra)
        (x, unflatten), (g, _) = trees.ravel(params), trees.ravel(updates)
        inverse, fresh = _update_inverse(state, x, g, curvature_eps)
        direction = -inverse @ g
        slope = g @ direction
        descends = (slope < 0) & jnp.isfinite(slope)
        fresh = fresh | ~descends
        direction = unflatten(jnp.where(descends, direction, -g))
        length = jnp.sqrt(g @ g)
        initial = jnp.where(fresh, 1 / jnp.where(length > 0, length, 1), 1)
        result = search(
            line_search, value_fn, params, value, updates, direction, initial, max_evaluations=max_evaluations
        )
        fresh = fresh | ~result.success
        new = BfgsState(
            inverse=jnp.where(fresh, jnp.eye(x.size, dtype=x.dtype), inverse),
            params=x,
            gradient=g,
            value=result.value,
            grad=result.grad,
            evaluations=state.evaluations + result.evaluations,
            known=jnp.bool_(True),
            fresh=fresh,
        )
        return result.along(direction), new

    return optax.GradientTransformationExtraArgs(init, update)


def check_size(name: str, params: Any, most: int) -> None:
    """Raise `ValueError` if a square matrix of the parameters would be too large."""
    count = trees.size(params)
    if count > most:
        gigabytes = count**2 * trees.widest(params).itemsize / 1e9
        raise ValueError(
            f"{name} keeps a matrix of {count:,} x {count:,} numbers, {gigabytes:,.1f} GB, and is limited to {most:,} "
            "parameters; use lbfgs or hessian_free, or raise max_parameters"
        )


def _update_inverse(state: BfgsState, x: jax.Array, g: jax.Array, curvature_eps: float) -> tuple[jax.Array, jax.Array]:
    """Return the inverse updated with the latest step, and whether it is still the identity."""
    s, y = x - state.params, g - state.gradient
    curvature, size = s @ y, y @ y
    least = cast_like(curvature_eps, curvature) * jnp.sqrt(s @ s) * jnp.sqrt(size)
    keep = state.known & (curvature > least) & jnp.isfinite(curvature)
    rho = 1 / jnp.where(keep, curvature, 1)
    scale = jnp.where(state.fresh, jnp.where(keep, curvature, 1) / jnp.where(keep, size, 1), 1)
    inverse = scale * state.inverse
    hy = inverse @ y
    outer = jnp.outer(s, hy)
    updated = inverse - rho * (outer + outer.T) + (rho + rho * rho * (y @ hy)) * jnp.outer(s, s)
    return jnp.where(keep, updated, state.inverse), state.fresh & ~keep
