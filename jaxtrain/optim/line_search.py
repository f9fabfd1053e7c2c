"""Line searches: the step length along a descent direction, inside a jitted step."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxtrain.optim import trees
from jaxtrain.optim.chain import cast_like
from jaxtrain.optim.more_thuente import Bracket, next_bracket, start_bracket

LineSearchKind = Literal["strong_wolfe", "armijo"]
C1 = 1e-4
"""Default of the required decrease, as a fraction of the decrease predicted by the slope."""


class LineSearchResult(NamedTuple):
    """Result of a line search.

    Attributes:
      step: f[], the step length along the direction; 0 if the search failed.
      value: f[], the objective at the new point.
      grad: the gradient at the new point, like the parameters.
      evaluations: int32[], the number of evaluations of the objective, with or without its gradient.
      success: bool[], whether the conditions hold, or at least the first one (the decrease).
    """

    step: jax.Array
    value: jax.Array
    grad: Any
    evaluations: jax.Array
    success: jax.Array

    def along(self, direction: Any) -> Any:
        """Return `step * direction`; 0 if the search failed, even if the direction is not finite."""
        return trees.choose(self.success, trees.scale(self.step, direction), trees.zeros(direction))


def search(
    kind: LineSearchKind,
    value_fn: Callable[[Any], jax.Array],
    params: Any,
    value: jax.Array,
    grad: Any,
    direction: Any,
    initial: jax.Array,
    *,
    c1: float = C1,
    c2: float = 0.9,
    max_evaluations: int = 20,
) -> LineSearchResult:
    """Search along the descent direction `direction`; the first trial is the step `initial`.

    It never returns a value above the starting one. A trial with a value that is not finite counts as too far.

    Args:
      kind: the kind of search, "strong_wolfe" (`strong_wolfe`) or "armijo" (`armijo`).
      value_fn: the objective, `params -> f[]`.
      params: the starting point.
      value: f[], the objective at the starting point.
      grad: the gradient at the starting point.
      direction: the direction, like `params`.
      initial: f[], the first trial.
      c1: the required decrease, as a fraction of the decrease predicted by the slope.
      c2: the largest slope at the end, as a fraction of the slope at the start; for strong Wolfe only.
      max_evaluations: the largest number of evaluations; after these the best point so far is taken.
    """
    wide = trees.widest(params)
    start = value.astype(wide)
    slope = trees.dot(grad, direction)
    if kind == "armijo":
        return armijo(value_fn, params, start, grad, direction, slope, initial.astype(wide), c1, max_evaluations)
    slope_limit = cast_like(c2, slope)
    return strong_wolfe(
        value_fn, params, start, grad, direction, slope, initial.astype(wide), c1, slope_limit, max_evaluations
    )


def armijo(
    value_fn: Callable[[Any], jax.Array],
    params: Any,
    value: jax.Array,
    grad: Any,
    direction: Any,
    slope: jax.Array,
    initial: jax.Array,
    c1: float,
    max_evaluations: int,
) -> LineSearchResult:
    """Backtrack to phi(t) <= phi(0) + c1 t phi'(0), by the minimum of a parabola, kept in [t/10, t/2].

    Nocedal & Wright 2006, algorithm 3.1 and equation 3.57. The gradient is computed once, at the end.
    """

    def is_low_enough(t: jax.Array, phi: jax.Array) -> jax.Array:
        return phi <= value + c1 * t * slope  # False if phi is NaN

    def body(carry: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        t, phi, count = carry
        parabola = -slope * t * t / (2 * (phi - value - slope * t))
        shorter = jnp.where(jnp.isfinite(parabola), jnp.clip(parabola, 0.1 * t, 0.5 * t), 0.1 * t)
        return shorter, evaluate(shorter), count + 1

    def evaluate(t: jax.Array) -> jax.Array:
        return value_fn(trees.add_scaled(params, t, direction)).astype(value.dtype)

    def should_continue(carry: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        t, phi, count = carry
        return ~is_low_enough(t, phi) & (count < max_evaluations)

    t, phi, count = jax.lax.while_loop(should_continue, body, (initial, evaluate(initial), jnp.int32(1)))
    success = is_low_enough(t, phi)
    t = jnp.where(success, t, 0)
    gradient = jax.grad(value_fn)(trees.add_scaled(params, t, direction))
    return LineSearchResult(
        t, jnp.where(success, phi, value), trees.choose(success, gradient, grad), count + 1, success
    )


class _Carry(NamedTuple):
    bracket: Bracket
    used: jax.Array
    done: jax.Array
    best: LineSearchResult


def strong_wolfe(
    value_fn: Callable[[Any], jax.Array],
    params: Any,
    value: jax.Array,
    grad: Any,
    direction: Any,
    slope: jax.Array,
    initial: jax.Array,
    c1: float,
    c2: float | jax.Array,
    max_evaluations: int,
) -> LineSearchResult:
    """Search a step with phi(t) <= phi(0) + c1 t phi'(0) and |phi'(t)| <= c2 |phi'(0)|.

    The method is that of More & Thuente 1994. If the evaluations run out before both conditions hold, the result is the
    lowest point at which the first one does.
    """
    value_and_grad = jax.value_and_grad(value_fn)

    def body(carry: _Carry) -> _Carry:
        t = carry.bracket.trial
        phi, gradient = value_and_grad(trees.add_scaled(params, t, direction))
        phi = phi.astype(value.dtype)
        rise = trees.dot(gradient, direction)
        finite = jnp.isfinite(phi) & jnp.isfinite(rise)
        enough = finite & (phi <= value + c1 * t * slope)
        wolfe = enough & (jnp.abs(rise) <= -c2 * slope)
        better = enough & (wolfe | (phi < carry.best.value))
        here = LineSearchResult(t, phi, gradient, carry.used + 1, enough)
        best = trees.choose(better, here, carry.best)
        bracket, stuck = next_bracket(carry.bracket, value, slope, phi, rise, finite, c1)
        return _Carry(bracket, carry.used + 1, wolfe | stuck, best)

    none = LineSearchResult(jnp.zeros_like(initial), value, grad, jnp.int32(0), jnp.bool_(False))
    begin = _Carry(start_bracket(value, slope, initial), jnp.int32(0), jnp.bool_(False), none)
    end = jax.lax.while_loop(lambda c: ~c.done & (c.used < max_evaluations), body, begin)
    return end.best._replace(evaluations=end.used)
