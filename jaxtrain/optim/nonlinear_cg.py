"""Nonlinear conjugate gradients."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.annotations import Fraction, PositiveInt
from jaxtrain.optim import trees
from jaxtrain.optim.lbfgs import objective
from jaxtrain.optim.line_search import C1, Kind, search


class ConjugateState(NamedTuple):
    """State of `nonlinear_cg`: three copies of the parameters.

    Attributes:
      direction: the latest.
      gradient: before the latest update.
      decrease: f[], of the objective, that the latest update was to bring.
      value: f[], the objective where it leads to; infinite before the first.
      grad: its gradient there; for `optax.value_and_grad_from_state`.
      evaluations: int32[], of the objective, over all updates.
      known: bool[], whether there is a latest update that found something.
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
    line_search: Kind = "strong_wolfe",
    max_evaluations: PositiveInt = 20,
    c2: Fraction = 0.4,
) -> optax.GradientTransformationExtraArgs:
    """Conjugate gradients for any smooth objective (Nocedal & Wright 2006, algorithm 5.4).

    d = -g + beta d_before, with beta = max(0, g'(g - g_before) / |g_before|^2) (Polak & Ribiere 1969, PR+) or
    |g|^2 / |g_before|^2 (Fletcher & Reeves 1964). Fletcher-Reeves begins anew where successive gradients are far from
    orthogonal, |g'g_before| >= 0.2 |g|^2 (Powell 1977; N&W 5.52 with a nu of 0.2), both where d does not descend or the
    search found nothing. The first trial of a search is what the last decrease suggests (N&W 3.60).

    The objective must be the same at each step: the full batch, no dropout, no augmentation.
    `update` needs `params` and `value_fn`, and takes `value`.

    Args:
      method: the formula of beta.
      line_search: "strong_wolfe" (c1 = 1e-4) or "armijo".
      max_evaluations: of the objective, in a line search.
      c2: the slope left at the end of a strong Wolfe search, as a fraction of that at its start. The smaller, the more
        exact and the dearer the search. Above c1, and below the 1/2 that Fletcher-Reeves needs (N&W, lemma 5.6).
    """
    if isinstance(c2, int | float) and c2 <= C1:
        raise ValueError(f"c2={c2} must lie above c1={C1}: no step need satisfy both conditions otherwise")
    if isinstance(c2, int | float) and method == "fletcher_reeves" and c2 >= 0.5:
        raise ValueError(f"method='fletcher_reeves' descends for sure only with c2 below 0.5, and c2 is {c2}")

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
        value_fn, value = objective("nonlinear_cg", params, extra)
        now = trees.dot(updates, updates)
        conjugate = trees.add_scaled(trees.negative(updates), _beta(method, updates, now, state), state.direction)
        slope = trees.dot(updates, conjugate)
        descends = (slope < 0) & jnp.isfinite(slope)
        direction = trees.choose(descends, conjugate, trees.negative(updates))
        initial = _first_trial(now, jnp.where(descends, slope, -now), state)
        found = search(
            line_search, value_fn, params, value, updates, direction, initial, c2=c2, max_evaluations=max_evaluations
        )
        new = ConjugateState(
            direction=direction,
            gradient=updates,
            decrease=(found.value - value).astype(state.decrease.dtype),
            value=found.value,
            grad=found.grad,
            evaluations=state.evaluations + found.evaluations,
            known=found.success,
        )
        return found.along(direction), new

    return optax.GradientTransformationExtraArgs(init, update)


def _beta(method: str, gradient: optax.Updates, now: jax.Array, state: ConjugateState) -> jax.Array:
    """How much of the last direction to keep; none at first. `now` is |gradient|^2."""
    before, common = trees.dot(state.gradient, state.gradient), trees.dot(gradient, state.gradient)
    safe = jnp.where(before > 0, before, 1)
    if method == "polak_ribiere":
        beta = jnp.maximum(now - common, 0) / safe
    else:
        beta = jnp.where(jnp.abs(common) >= 0.2 * now, 0, now / safe)
    return jnp.where(state.known & (before > 0), beta, 0)


def _first_trial(now: jax.Array, slope: jax.Array, state: ConjugateState) -> jax.Array:
    """The step that a search begins with: by the last decrease, or of length 1 where there is none."""
    suggested = jnp.minimum(1, 2.02 * state.decrease / jnp.where(slope < 0, slope, -1))
    length = jnp.sqrt(now)
    return jnp.where(state.known & (suggested > 0), suggested, 1 / jnp.where(length > 0, length, 1))
