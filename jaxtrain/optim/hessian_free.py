"""Hessian-free optimization: Newton steps by conjugate gradients, from products with the curvature matrix only."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxtrain.annotations import Fraction, NonNegativeFloat, PositiveInt
from jaxtrain.optim import trees
from jaxtrain.optim.batch_objective import get_objective
from jaxtrain.optim.lbfgs import require_objective
from jaxtrain.optim.line_search import LineSearchResult, search
from jaxtrain.optim.param_rules import is_zero

LinearMap = Callable[[Any], Any]
"""Linear map between trees like the parameters."""


class HessianFreeState(NamedTuple):
    """State of `hessian_free`.

    Attributes:
      damping: f[], lambda.
      solution: the latest update, like the parameters; an empty tuple if `cg_decay` is 0.
      products: int32[], the number of products with the curvature matrix in all updates.
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
    """Build Hessian-free optimization (Martens 2010, algorithm 2).

    Conjugate gradients solve (B + damping * I) p = -g, and the update is t p with t by an Armijo line search.

    B is the generalized Gauss-Newton matrix J' H_L J of the outputs' loss (Schraudolph 2002), positive semidefinite for
    a convex loss, or the Hessian. Neither is ever built: a product with J is a forward derivative, a product with J' a
    backward one.

    The iteration starts from `cg_decay` times the latest update (Martens 2010; the decay: Martens & Sutskever 2012). It
    ends when the residual is at most min(1/2, sqrt |g|) |g| (Nocedal & Wright 2006, algorithm 7.1), or at a direction
    of negative curvature with the solution so far, or after `max_cg_iterations`. The direction is -g if the first one
    has negative curvature, or if the result does not descend. An update never raises the objective; if nothing lowers
    it, the update is 0.

    The damping is multiplied by 2/3 if the decrease is more than 3/4 of that predicted by the model, and by 3/2 if it
    is less than 1/4 (Martens 2010, section 4.1). It is multiplied by 4 if the update is 0. It stays at or above its
    first value times the rounding unit. If it would exceed its first value divided by the unit, it is reset to its
    first value.

    The objective must be the same at each step: the full batch, no dropout, no augmentation. `update` needs `params`
    and `value_fn` and accepts `value`. "gauss_newton" also needs an `objective` (`BatchObjective`) with `outputs` and
    `output_loss`. Penalties in `value_fn` affect its values and gradients, but not the Gauss-Newton matrix: add a
    penalty's second derivative as `damping`, or use "hessian".

    Args:
      curvature: the matrix B, "gauss_newton" or "hessian".
      damping: lambda at the start; 0 stays 0.
      max_cg_iterations: the largest number of products with B in a step, besides one for the start and one for the
        gain.
      cg_decay: the fraction of the latest update from which the iteration starts; 0 starts at 0 and keeps no copy.
      max_evaluations: the largest number of evaluations of the objective in the line search.

    Example:
      Three steps on (x_1^2 + 3 x_2^2) / 2:

      >>> import jax, jax.numpy as jnp, jaxtrain, optax
      >>> def objective(x):
      ...     return jnp.sum(jnp.array([1.0, 3.0]) * x**2) / 2
      >>> tx = jaxtrain.optim.hessian_free(curvature="hessian")
      >>> @jax.jit
      ... def step(x, state):
      ...     updates, state = tx.update(jax.grad(objective)(x), state, x, value_fn=objective)
      ...     return optax.apply_updates(x, updates), state
      >>> x = jnp.array([1.0, 1.0])
      >>> state = tx.init(x)
      >>> for _ in range(3):
      ...     x, state = step(x, state)
      ...     print(jax.device_get(x).round(3))
      [0.737 0.211]
      [0.398 0.045]
      [0.096 0.008]
    """

    def init(params: optax.Params) -> HessianFreeState:
        solution = () if is_zero(cg_decay) else trees.zeros(params)
        return HessianFreeState(jnp.asarray(damping, trees.widest(params)), solution, jnp.int32(0))

    def update(
        updates: optax.Updates, state: HessianFreeState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, HessianFreeState]:
        value_fn, value = require_objective("hessian_free", params, extra)
        wide = trees.widest(params)
        product = (
            gauss_newton_product(params, extra) if curvature == "gauss_newton" else hessian_product(value_fn, params)
        )
        warm = not is_zero(cg_decay)
        start = trees.scale(jnp.asarray(cg_decay, wide), state.solution) if warm else None
        solution, used = solve_truncated_cg(product, state.damping, updates, max_cg_iterations, start)
        slope = trees.dot(updates, solution)
        descends = (slope < 0) & jnp.isfinite(slope)
        direction = trees.choose(descends, solution, trees.negative(updates))
        one = jnp.ones((), wide)
        result = search("armijo", value_fn, params, value, updates, direction, one, max_evaluations=max_evaluations)
        step = result.along(direction)
        promised = -(trees.dot(updates, step) + trees.dot(step, product(step)) / 2)
        adapted = _adapt_damping(state.damping, jnp.asarray(damping, wide), result, value.astype(wide), promised)
        products = state.products + used + (2 if warm else 1)
        return step, HessianFreeState(adapted, step if warm else (), products)

    return optax.GradientTransformationExtraArgs(init, update)


def _adapt_damping(
    damping: jax.Array, first: jax.Array, result: LineSearchResult, value: jax.Array, promised: jax.Array
) -> jax.Array:
    """Return the next damping: lower if the decrease was close to the predicted one, higher if it was not."""
    gain = (value - result.value) / jnp.where(promised > 0, promised, jnp.inf)
    factor = jnp.where(gain > 0.75, 2 / 3, jnp.where(gain < 0.25, 1.5, 1.0))
    after = damping * jnp.where(result.success, factor, 4.0).astype(damping.dtype)
    # Without limits it would finally become 0 or infinite, and no factor changes these values.
    unit = float(np.finfo(damping.dtype).eps)
    return jnp.where(after <= first / unit, jnp.maximum(after, first * unit), first)


def hessian_product(value_fn: Callable[[Any], jax.Array], params: Any) -> LinearMap:
    """Return the product with the Hessian: the derivative of the gradient along a direction."""
    _, product = jax.linearize(jax.grad(value_fn), params)
    return product


def gauss_newton_product(params: Any, extra: dict[str, Any]) -> LinearMap:
    """Return the product with J' H_L J: J is the derivative of the outputs, H_L the Hessian of their loss."""
    model, output_loss = get_objective(extra).outputs, get_objective(extra).output_loss
    if model is None or output_loss is None:
        raise ValueError(
            "hessian_free needs the model and its loss for the Gauss-Newton matrix: call update(..., "
            "objective=BatchObjective(outputs=params -> outputs, output_loss=outputs -> loss)), or use "
            'curvature="hessian"'
        )
    outputs, forward = jax.linearize(model, params)
    backward = jax.linear_transpose(forward, params)
    _, output_hessian = jax.linearize(jax.grad(output_loss), outputs)

    def product(v: Any) -> Any:
        (result,) = backward(output_hessian(forward(v)))
        return result

    return product


class _Cg(NamedTuple):
    solution: Any
    residual: Any
    direction: Any
    size: jax.Array
    used: jax.Array
    done: jax.Array


def solve_truncated_cg(
    product: LinearMap, damping: jax.Array, gradient: Any, max_iterations: int, start: Any = None
) -> tuple[Any, jax.Array]:
    """Return an approximate solution of (B + damping I) p = -g and the number of iterations, from `start` or from 0."""
    descent, length = trees.negative(gradient), trees.norm(gradient)
    enough = jnp.square(jnp.minimum(0.5, jnp.sqrt(length)) * length)

    def multiply_damped(v: Any) -> Any:
        return trees.add_scaled(product(v), damping, v)

    def body(c: _Cg) -> _Cg:
        image = multiply_damped(c.direction)
        curvature = trees.dot(c.direction, image)
        positive = (curvature > 0) & jnp.isfinite(curvature)
        alpha = jnp.where(positive, c.size / jnp.where(positive, curvature, 1), 0)
        solution = trees.add_scaled(c.solution, alpha, c.direction)
        solution = trees.choose(~positive & (c.used == 0), descent, solution)
        residual = trees.add_scaled(c.residual, -alpha, image)
        left = trees.dot(residual, residual)
        beta = left / jnp.where(c.size > 0, c.size, 1)
        direction = trees.add_scaled(residual, beta, c.direction)
        return _Cg(solution, residual, direction, left, c.used + 1, ~positive | (left <= enough))

    solution = trees.zeros(gradient) if start is None else start
    residual = descent if start is None else trees.subtract(descent, multiply_damped(start))
    size = trees.dot(residual, residual)
    begin = _Cg(solution, residual, residual, size, jnp.int32(0), size <= enough)
    end = jax.lax.while_loop(lambda c: ~c.done & (c.used < max_iterations), body, begin)
    return end.solution, end.used
