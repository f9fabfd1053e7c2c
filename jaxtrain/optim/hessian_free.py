"""Hessian-free optimization: Newton's step by conjugate gradients, from products with the curvature alone."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxtrain.annotations import Fraction, NonNegativeFloat, PositiveInt
from jaxtrain.optim import trees
from jaxtrain.optim.batch_objective import objective_of
from jaxtrain.optim.lbfgs import objective
from jaxtrain.optim.line_search import Found, search
from jaxtrain.optim.param_rules import is_zero

Product = Callable[[Any], Any]
"""A linear map of trees like the parameters."""


class HessianFreeState(NamedTuple):
    """State of `hessian_free`.

    Attributes:
      damping: f[], lambda.
      solution: the latest update, like the parameters; an empty tuple where `cg_decay` is 0.
      products: int32[], with the curvature, over all updates.
    """

    damping: jax.Array
    solution: Any
    products: jax.Array


def hessian_free(
    *,
    curvature: Literal["gauss_newton", "hessian"] = "gauss_newton",
    damping: NonNegativeFloat = 1.0,
    max_cg_iterations: PositiveInt = 50,
    cg_decay: Fraction = 0.95,
    max_evaluations: PositiveInt = 20,
) -> optax.GradientTransformationExtraArgs:
    """Hessian-free optimization (Martens 2010, algorithm 2): (B + damping * I) p = -g solved by conjugate gradients.

    B is the generalized Gauss-Newton matrix J' H_L J of the outputs' loss (Schraudolph 2002), positive semidefinite for
    a convex loss, or the Hessian itself. Neither is ever written out: a product with J is a forward derivative, one
    with J' a backward one.

    The iteration begins at `cg_decay` times the latest update (Martens 2010; the decay: Martens & Sutskever 2012). It
    ends where the residual is min(1/2, sqrt |g|) |g| (Nocedal & Wright 2006, algorithm 7.1), at a direction of negative
    curvature, with what there is by then, or after `max_cg_iterations`. The direction is -g where the first of all is
    one of negative curvature, or the result does not descend. Then the step is shortened until the objective falls
    (Armijo). An update never raises the objective; where nothing lowers it, the update is 0.

    The damping is multiplied by 2/3 where the decrease is more than 3/4 of what the model promised, by 3/2 where it is
    less than 1/4 (Martens 2010, section 4.1), and by 4 where the update is 0. It does not fall below its first value
    times the rounding unit; where it would rise above that divided by the unit, it begins anew.

    The objective must be the same at each step: the full batch, no dropout, no augmentation. `update` needs `params`
    and `value_fn`, takes `value`, and for "gauss_newton" needs an `objective` (`BatchObjective`) with `outputs` and
    `output_loss`. Penalties in `value_fn` are seen in its values and gradients, and not in the Gauss-Newton matrix:
    give a penalty's second derivative as `damping`, or take "hessian".

    Args:
      curvature: which matrix.
      damping: lambda, at the start; 0 stays 0.
      max_cg_iterations: products with B in a step, besides one for the start and one for the gain.
      cg_decay: what of the latest update the iteration begins with; 0 begins at 0, and keeps no copy.
      max_evaluations: of the objective, while the step is shortened.
    """

    def init(params: optax.Params) -> HessianFreeState:
        solution = () if is_zero(cg_decay) else trees.zeros(params)
        return HessianFreeState(jnp.asarray(damping, trees.widest(params)), solution, jnp.int32(0))

    def update(
        updates: optax.Updates, state: HessianFreeState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, HessianFreeState]:
        value_fn, value = objective("hessian_free", params, extra)
        wide = trees.widest(params)
        product = _gauss_newton(params, extra) if curvature == "gauss_newton" else _hessian(value_fn, params)
        warm = not is_zero(cg_decay)
        start = trees.scaled(jnp.asarray(cg_decay, wide), state.solution) if warm else None
        solution, used = _truncated_cg(product, state.damping, updates, max_cg_iterations, start)
        slope = trees.dot(updates, solution)
        descends = (slope < 0) & jnp.isfinite(slope)
        direction = trees.choose(descends, solution, trees.negative(updates))
        one = jnp.ones((), wide)
        found = search("armijo", value_fn, params, value, updates, direction, one, max_evaluations=max_evaluations)
        step = found.along(direction)
        promised = -(trees.dot(updates, step) + trees.dot(step, product(step)) / 2)
        adapted = _adapted(state.damping, jnp.asarray(damping, wide), found, value.astype(wide), promised)
        products = state.products + used + (2 if warm else 1)
        return step, HessianFreeState(adapted, step if warm else (), products)

    return optax.GradientTransformationExtraArgs(init, update)


def _adapted(damping: jax.Array, first: jax.Array, found: Found, value: jax.Array, promised: jax.Array) -> jax.Array:
    """The next damping: less after a step that kept what the model promised, more after one that did not."""
    gain = (value - found.value) / jnp.where(promised > 0, promised, jnp.inf)
    factor = jnp.where(gain > 0.75, 2 / 3, jnp.where(gain < 0.25, 1.5, 1.0))
    after = damping * jnp.where(found.success, factor, 4.0).astype(damping.dtype)
    # left to itself it becomes 0 or infinite in the end, and is neither raised nor lowered from there
    unit = float(np.finfo(damping.dtype).eps)
    return jnp.where(after <= first / unit, jnp.maximum(after, first * unit), first)


def _hessian(value_fn: Callable[[Any], jax.Array], params: Any) -> Product:
    """Products with the Hessian: the derivative of the gradient along a direction."""
    _, product = jax.linearize(jax.grad(value_fn), params)
    return product


def _gauss_newton(params: Any, extra: dict[str, Any]) -> Product:
    """Products with J' H_L J, J the derivative of the outputs and H_L the Hessian of their loss."""
    model, output_loss = objective_of(extra).outputs, objective_of(extra).output_loss
    if model is None or output_loss is None:
        raise ValueError(
            "hessian_free builds its Gauss-Newton matrix from the model and its loss: call update(..., "
            "objective=BatchObjective(outputs=params -> outputs, output_loss=outputs -> loss)), or take "
            'curvature="hessian"'
        )
    outputs, forward = jax.linearize(model, params)
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


def _truncated_cg(
    product: Product, damping: jax.Array, gradient: Any, max_iterations: int, start: Any = None
) -> tuple[Any, jax.Array]:
    """An approximate solution of (B + damping I) p = -g, and how many iterations it took, from `start` or from 0."""
    descent, length = trees.negative(gradient), trees.norm(gradient)
    enough = jnp.square(jnp.minimum(0.5, jnp.sqrt(length)) * length)

    def damped(v: Any) -> Any:
        return trees.add_scaled(product(v), damping, v)

    def body(c: _Cg) -> _Cg:
        image = damped(c.direction)
        bend = trees.dot(c.direction, image)
        positive = (bend > 0) & jnp.isfinite(bend)
        alpha = jnp.where(positive, c.size / jnp.where(positive, bend, 1), 0)
        solution = trees.add_scaled(c.solution, alpha, c.direction)
        solution = trees.choose(~positive & (c.used == 0), descent, solution)
        residual = trees.add_scaled(c.residual, -alpha, image)
        left = trees.dot(residual, residual)
        beta = left / jnp.where(c.size > 0, c.size, 1)
        direction = trees.add_scaled(residual, beta, c.direction)
        return _Cg(solution, residual, direction, left, c.used + 1, ~positive | (left <= enough))

    solution = trees.zeros(gradient) if start is None else start
    residual = descent if start is None else trees.subtract(descent, damped(start))
    size = trees.dot(residual, residual)
    begin = _Cg(solution, residual, residual, size, jnp.int32(0), size <= enough)
    end = jax.lax.while_loop(lambda c: ~c.done & (c.used < max_iterations), body, begin)
    return end.solution, end.used
