"""BFGS: the inverse Hessian from differences of gradients, written out."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.annotations import NonNegativeFloat, PositiveInt
from jaxtrain.optim import trees
from jaxtrain.optim.chain import like
from jaxtrain.optim.lbfgs import objective
from jaxtrain.optim.line_search import Kind, search


class BfgsState(NamedTuple):
    """State of `bfgs`, with N parameters.

    Attributes:
      inverse: f[N, N], the approximation of the inverse Hessian.
      params: f[N], before the latest update.
      gradient: f[N], before the latest update.
      value: f[], the objective where the latest update leads to; infinite before the first.
      grad: its gradient there, like the parameters; for `optax.value_and_grad_from_state`.
      evaluations: int32[], of the objective, over all updates.
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
    line_search: Kind = "strong_wolfe",
    max_evaluations: PositiveInt = 20,
    curvature_eps: NonNegativeFloat = 1e-10,
    max_parameters: PositiveInt = 10_000,
) -> optax.GradientTransformationExtraArgs:
    """BFGS (Nocedal & Wright 2006, algorithm 6.1): x -= t H g, H updated by equation 6.17 after each step.

    H' = (I - s y' / s'y) H (I - y s' / s'y) + s s' / s'y for a step s and the change y of the gradient; before the
    first update H is (s'y / y'y) I (equation 6.20). An update without curvature, s'y <= curvature_eps |s| |y|, is left
    out. Where the direction does not descend, or the search finds nothing, H is the identity again.

    The objective must be the same at each step: the full batch, no dropout, no augmentation.
    `update` needs `params` and `value_fn`, and takes `value`.

    Args:
      line_search: "strong_wolfe" (c1 = 1e-4, c2 = 0.9) or "armijo".
      max_evaluations: of the objective, in a line search.
      curvature_eps: the least cosine of s and y for an update of H.
      max_parameters: more are refused, since H takes N^2 numbers.
    """

    def init(params: optax.Params) -> BfgsState:
        check_size("bfgs", params, max_parameters)
        vector, _ = trees.flattened(params)
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
        value_fn, value = objective("bfgs", params, extra)
        (x, restored), (g, _) = trees.flattened(params), trees.flattened(updates)
        inverse, fresh = _updated(state, x, g, curvature_eps)
        direction = -inverse @ g
        slope = g @ direction
        descends = (slope < 0) & jnp.isfinite(slope)
        fresh = fresh | ~descends
        direction = restored(jnp.where(descends, direction, -g))
        length = jnp.sqrt(g @ g)
        initial = jnp.where(fresh, 1 / jnp.where(length > 0, length, 1), 1)
        found = search(
            line_search, value_fn, params, value, updates, direction, initial, max_evaluations=max_evaluations
        )
        fresh = fresh | ~found.success
        new = BfgsState(
            inverse=jnp.where(fresh, jnp.eye(x.size, dtype=x.dtype), inverse),
            params=x,
            gradient=g,
            value=found.value,
            grad=found.grad,
            evaluations=state.evaluations + found.evaluations,
            known=jnp.bool_(True),
            fresh=fresh,
        )
        return found.along(direction), new

    return optax.GradientTransformationExtraArgs(init, update)


def check_size(name: str, params: Any, most: int) -> None:
    """Refuses parameters whose square matrix would be too large."""
    count = trees.size(params)
    if count > most:
        gigabytes = count**2 * trees.widest(params).itemsize / 1e9
        raise ValueError(
            f"{name} keeps a matrix of {count:,} x {count:,} numbers, {gigabytes:,.1f} GB, and is limited to {most:,} "
            "parameters; take lbfgs or hessian_free, or raise max_parameters"
        )


def _updated(state: BfgsState, x: jax.Array, g: jax.Array, curvature_eps: float) -> tuple[jax.Array, jax.Array]:
    """The inverse with the latest step in it, and whether it is still the identity."""
    s, y = x - state.params, g - state.gradient
    curvature, size = s @ y, y @ y
    least = like(curvature_eps, curvature) * jnp.sqrt(s @ s) * jnp.sqrt(size)
    keep = state.known & (curvature > least) & jnp.isfinite(curvature)
    rho = 1 / jnp.where(keep, curvature, 1)
    scale = jnp.where(state.fresh, jnp.where(keep, curvature, 1) / jnp.where(keep, size, 1), 1)
    inverse = scale * state.inverse
    hy = inverse @ y
    outer = jnp.outer(s, hy)
    updated = inverse - rho * (outer + outer.T) + (rho + rho * rho * (y @ hy)) * jnp.outer(s, s)
    return jnp.where(keep, updated, state.inverse), state.fresh & ~keep
