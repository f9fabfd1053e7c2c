"""Hessian-free optimization: Newton's step by conjugate gradients, from products with the curvature alone."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.config.annotations import NonNegativeFloat, PositiveInt
from jaxtrain.optim import trees
from jaxtrain.optim.limited_memory import objective
from jaxtrain.optim.line_search import search

Product = Callable[[Any], Any]
"""A linear map of trees like the parameters."""


class HessianFreeState(NamedTuple):
    """State of `hessian_free`: f[] the damping; int32[] products with the curvature, over all updates."""

    damping: jax.Array
    products: jax.Array


def hessian_free(
    *,
    curvature: Literal["gauss_newton", "hessian"] = "gauss_newton",
    damping: NonNegativeFloat = 1.0,
    max_cg_iterations: PositiveInt = 50,
    max_evaluations: PositiveInt = 20,
) -> optax.GradientTransformationExtraArgs:
    """Hessian-free optimization (Martens 2010, algorithm 2): (B + damping * I) p = -g solved by conjugate gradients.

    B is the generalized Gauss-Newton matrix J' H_L J of the outputs' loss (Schraudolph 2002), positive semidefinite for
    a convex loss, or the Hessian itself. Neither is ever written out: a product with J is a forward derivative, one
    with J' a backward one. The iteration ends where the residual is min(1/2, sqrt |g|) |g| (Nocedal & Wright 2006,
    algorithm 7.1), at a direction of negative curvature, with what there is by then, or after `max_cg_iterations`.
    Then the step is shortened until the objective falls (Armijo), and the damping multiplied by 2/3 where the decrease
    is more than 3/4 of what the model promised, by 3/2 where it is less than 1/4 (Martens 2010, section 4.1). An update
    never raises the objective; where nothing lowers it, the update is 0.

    The objective must be the same at each step: the full batch, no dropout, no augmentation. `update` needs `params`
    and `value_fn`, takes `value`, and for "gauss_newton" needs `output_fn` and `output_loss`. Penalties in `value_fn`
    are seen in its values and gradients, and not in the Gauss-Newton matrix: give a penalty's second derivative as
    `damping`, or take "hessian".

    Args:
      curvature: which matrix.
      damping: lambda, at the start.
      max_cg_iterations: products with B in a step.
      max_evaluations: of the objective, while the step is shortened.
    """

    def init(params: optax.Params) -> HessianFreeState:
        return HessianFreeState(jnp.asarray(damping, trees.widest(params)), jnp.int32(0))

    def update(
        updates: optax.Updates, state: HessianFreeState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, HessianFreeState]:
        value_fn, value = objective("hessian_free", params, extra)
        wide = trees.widest(params)
        product = _gauss_newton(params, extra) if curvature == "gauss_newton" else _hessian(value_fn, params)
        solution, used = _truncated_cg(product, state.damping, updates, max_cg_iterations)
        slope = trees.dot(updates, solution)
        descends = (slope < 0) & jnp.isfinite(slope)
        direction = trees.choose(descends, solution, trees.negative(updates))
        slope = trees.dot(updates, direction)
        one = jnp.ones((), wide)
        found = search(
            "armijo", value_fn, params, value, updates, direction, one, c1=1e-4, max_evaluations=max_evaluations
        )
        bend = trees.dot(direction, product(direction))
        promised = -found.step * (slope + found.step * bend / 2)
        gain = (value.astype(wide) - found.value) / jnp.where(promised > 0, promised, jnp.inf)
        factor = jnp.where(gain > 0.75, 2 / 3, jnp.where(gain < 0.25, 1.5, 1.0))
        factor = jnp.where(found.success, factor, 4.0).astype(wide)
        return trees.scaled(found.step, direction), HessianFreeState(state.damping * factor, state.products + used + 1)

    return optax.GradientTransformationExtraArgs(init, update)


def _hessian(value_fn: Callable[[Any], jax.Array], params: Any) -> Product:
    """Products with the Hessian: the derivative of the gradient along a direction."""
    _, product = jax.linearize(jax.grad(value_fn), params)
    return product


def _gauss_newton(params: Any, extra: dict[str, Any]) -> Product:
    """Products with J' H_L J, J the derivative of the outputs and H_L the Hessian of their loss."""
    output_fn, output_loss = extra.get("output_fn"), extra.get("output_loss")
    if output_fn is None or output_loss is None:
        raise ValueError(
            "hessian_free builds its Gauss-Newton matrix from the model and its loss: call update(..., "
            'output_fn=params -> outputs, output_loss=outputs -> loss), or take curvature="hessian"'
        )
    outputs, forward = jax.linearize(output_fn, params)
    backward = jax.linear_transpose(forward, params)
    _, bend = jax.linearize(jax.grad(output_loss), outputs)

    def product(v: Any) -> Any:
        (result,) = backward(bend(forward(v)))
        return result

    return product


class _Cg(NamedTuple):
    solution: Any
    residual: Any
    direction: Any
    size: jax.Array
    used: jax.Array
    done: jax.Array


def _truncated_cg(product: Product, damping: jax.Array, gradient: Any, max_iterations: int) -> tuple[Any, jax.Array]:
    """An approximate solution of (B + damping I) p = -g, and how many products it took."""
    size = trees.dot(gradient, gradient)
    length = jnp.sqrt(size)
    enough = jnp.square(jnp.minimum(0.5, jnp.sqrt(length)) * length)

    def body(c: _Cg) -> _Cg:
        image = trees.add_scaled(product(c.direction), damping, c.direction)
        bend = trees.dot(c.direction, image)
        positive = (bend > 0) & jnp.isfinite(bend)
        alpha = jnp.where(positive, c.size / jnp.where(positive, bend, 1), 0)
        # negative curvature at the first direction: that is steepest descent, taken as it is
        alpha = jnp.where(~positive & (c.used == 0), 1, alpha)
        solution = trees.add_scaled(c.solution, alpha, c.direction)
        residual = trees.add_scaled(c.residual, -alpha, image)
        left = trees.dot(residual, residual)
        beta = left / jnp.where(c.size > 0, c.size, 1)
        direction = trees.add_scaled(residual, beta, c.direction)
        return _Cg(solution, residual, direction, left, c.used + 1, ~positive | (left <= enough))

    descent = trees.negative(gradient)
    begin = _Cg(trees.zeros(gradient), descent, descent, size, jnp.int32(0), size == 0)
    end = jax.lax.while_loop(lambda c: ~c.done & (c.used < max_iterations), body, begin)
    return end.solution, end.used
