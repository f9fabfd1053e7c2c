"""Nonlinear conjugate gradients."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.annotations import Fraction, PositiveInt
from jaxtrain.optim import trees
from jaxtrain.optim.lbfgs import require_objective
from jaxtrain.optim.line_search import C1, LineSearchKind, search


class ConjugateState(NamedTuple):
    """State of `nonlinear_cg`; it holds three copies of the parameters.

    Attributes:
      direction: the latest direction.
      gradient: the gradient before the latest update.
      decrease: f[], the change of the objective found by the latest search.
      value: f[], the objective after the latest update; infinite before the first.
      grad: the gradient after the latest update; for `optax.value_and_grad_from_state`.
      evaluations: int32[], the number of evaluations of the objective in all updates.
      known: bool[], whether there is a latest update and its search succeeded.
    """

    direction: Any
    gradient: Any
    decrease: jax.Array
    value: jax.Array
    grad: Any
    evaluations: jax.Array
    known: jax.Array


def nonlinear_cg(
    *,
    method: Literal["polak_ribiere", "fletcher_reeves"] = "polak_ribiere",
    line_search: LineSearchKind = "strong_wolfe",
    max_evaluations: PositiveInt = 20,
    c2: Fraction = 0.4,
) -> optax.GradientTransformationExtraArgs:
    """Build nonlinear conjugate gradients for a smooth objective (Nocedal & Wright 2006, algorithm 5.4).

        d' = -g + beta d
        x' = x + t d'     t by a line search

    With g_0 the gradient before g, beta is one of:

        "polak_ribiere":     max(0, g'(g - g_0) / |g_0|^2)     (Polak & Ribiere 1969, PR+)
        "fletcher_reeves":   |g|^2 / |g_0|^2                   (Fletcher & Reeves 1964)

    Fletcher-Reeves restarts with beta = 0 if successive gradients are far from orthogonal, |g'g_0| >= 0.2 |g|^2
    (Powell 1977; N&W 5.52 with nu = 0.2). Both restart if d does not descend or the search failed. The first trial of a
    search follows from the last decrease (N&W 3.60).

    The objective must be the same at each step: the full batch, no dropout, no augmentation.
    `update` needs `params` and `value_fn`, and accepts `value`.

    Args:
      method: the formula of beta.
      line_search: the kind of line search, "strong_wolfe" (c1 = 1e-4) or "armijo".
      max_evaluations: the largest number of evaluations of the objective in a line search.
      c2: the largest slope at the end of a strong Wolfe search, as a fraction of the slope at its start. A smaller c2
        makes the search more exact and more expensive. It must be above c1, and below the 1/2 that Fletcher-Reeves
        needs (N&W, lemma 5.6).

    Example:
      Three steps on (x_1^2 + 3 x_2^2) / 2, which is 2 at the start:

      >>> import jax, jax.numpy as jnp, jaxtrain, optax
      >>> def objective(x):
      ...     return jnp.sum(jnp.array([1.0, 3.0]) * x**2) / 2
      >>> tx = jaxtrain.optim.nonlinear_cg()
      >>> @jax.jit
      ... def step(x, state):
      ...     updates, state = tx.update(jax.grad(objective)(x), state, x, value_fn=objective)
      ...     return optax.apply_updates(x, updates), state
      >>> x = jnp.array([1.0, 1.0])
      >>> state = tx.init(x)
      >>> for _ in range(3):
      ...     x, state = step(x, state)
      ...     print(round(float(objective(x)), 3))
      0.238
      0.016
      0.003
    """
    if isinstance(c2, int | float) and c2 <= C1:
        raise ValueError(f"c2={c2} must be above c1={C1}; otherwise no step may satisfy both conditions")
    if isinstance(c2, int | float) and method == "fletcher_reeves" and c2 >= 0.5:
        raise ValueError(f"method='fletcher_reeves' needs c2 below 0.5, and c2 is {c2}; otherwise it may climb")

    def init(params: optax.Params) -> ConjugateState:
        wide = trees.widest(params)
        return ConjugateState(
            direction=trees.zeros(params),
            gradient=trees.zeros(params),
            decrease=jnp.zeros((), wide),
            value=jnp.asarray(jnp.inf, wide),
            grad=trees.zeros(params),
            evaluations=jnp.int32(0),
            known=jnp.bool_(False),
        )

    def update(
        updates: optax.Updates, state: ConjugateState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, ConjugateState]:
        value_fn, value = require_objective("nonlinear_cg", params, extra)
        now = trees.dot(updates, updates)
        conjugate = trees.add_scaled(trees.negative(updates), _beta(method, updates, now, state), state.direction)
        slope = trees.dot(updates, conjugate)
        descends = (slope < 0) & jnp.isfinite(slope)
        direction = trees.choose(descends, conjugate, trees.negative(updates))
        initial = _first_trial(now, jnp.where(descends, slope, -now), state)
        result = search(
            line_search, value_fn, params, value, updates, direction, initial, c2=c2, max_evaluations=max_evaluations
        )
        new = ConjugateState(
            direction=direction,
            gradient=updates,
            decrease=(result.value - value).astype(state.decrease.dtype),
            value=result.value,
            grad=result.grad,
            evaluations=state.evaluations + result.evaluations,
            known=result.success,
        )
        return result.along(direction), new

    return optax.GradientTransformationExtraArgs(init, update)


def _beta(method: str, gradient: optax.Updates, now: jax.Array, state: ConjugateState) -> jax.Array:
    """Return the factor of the last direction, 0 at first; `now` is |gradient|^2."""
    before, common = trees.dot(state.gradient, state.gradient), trees.dot(gradient, state.gradient)
    safe = jnp.where(before > 0, before, 1)
    if method == "polak_ribiere":
        beta = jnp.maximum(now - common, 0) / safe
    else:
        beta = jnp.where(jnp.abs(common) >= 0.2 * now, 0, now / safe)
    return jnp.where(state.known & (before > 0), beta, 0)


def _first_trial(now: jax.Array, slope: jax.Array, state: ConjugateState) -> jax.Array:
    """Return the first step of a search: from the last decrease, or of length 1 if there is none."""
    suggested = jnp.minimum(1, 2.02 * state.decrease / jnp.where(slope < 0, slope, -1))
    length = jnp.sqrt(now)
    return jnp.where(state.known & (suggested > 0), suggested, 1 / jnp.where(length > 0, length, 1))
