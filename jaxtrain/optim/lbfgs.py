"""L-BFGS: the inverse Hessian from the last few steps, never written out."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.annotations import NonNegativeFloat, PositiveInt
from jaxtrain.optim import trees
from jaxtrain.optim.chain import like
from jaxtrain.optim.line_search import Kind, search


class LbfgsState(NamedTuple):
    """State of `lbfgs`: 2m + 3 copies of the parameters.

    Attributes:
      steps: the last m steps, a leaf [m, ...] for each parameter; a ring.
      changes: of the gradient over those steps.
      curvatures: f[m], step'change of each pair; 0 where there is none.
      place: int32[], where the next pair goes.
      params: before the latest update.
      gradient: before the latest update.
      value: f[], the objective where the latest update leads to; infinite before the first.
      grad: its gradient there. `optax.value_and_grad_from_state` finds both, and saves an evaluation.
      evaluations: int32[], of the objective, over all updates.
      known: bool[], whether there is a latest update.
    """

    steps: Any
    changes: Any
    curvatures: jax.Array
    place: jax.Array
    params: Any
    gradient: Any
    value: jax.Array
    grad: Any
    evaluations: jax.Array
    known: jax.Array


def lbfgs(
    *,
    memory_size: PositiveInt = 10,
    line_search: Kind = "strong_wolfe",
    max_evaluations: PositiveInt = 20,
    curvature_eps: NonNegativeFloat = 1e-10,
) -> optax.GradientTransformationExtraArgs:
    """Limited-memory BFGS by the two-loop recursion (Nocedal 1980; Nocedal & Wright 2006, algorithms 7.4 and 7.5).

    The direction is -H g, with H built from the last pairs of a step s and the change y of the gradient over it, upon
    the initial (s'y / y'y) I of the newest. A pair is left out unless s'y > curvature_eps * |s| |y|: H is then positive
    definite, and the direction descends also where the objective is not convex. Should rounding spoil that, or should a
    search find nothing, the memory is cleared and the next direction is that of steepest descent. An update never
    raises the objective beyond the rounding of its value; where nothing lowers it, or the gradient is not finite, the
    update is 0.

    The objective must be the same at each step: the full batch, no dropout, no augmentation.
    `update` needs `params` and `value_fn`, and takes `value`.

    Args:
      memory_size: m, pairs that are kept.
      line_search: "strong_wolfe" (c1 = 1e-4, c2 = 0.9) or "armijo".
      max_evaluations: of the objective, in a line search.
      curvature_eps: the least cosine of s and y for a pair to be kept.
    """

    def init(params: optax.Params) -> LbfgsState:
        wide = trees.widest(params)
        ring = jax.tree.map(lambda p: jnp.zeros((memory_size, *jnp.shape(p)), jnp.result_type(p)), params)
        return LbfgsState(
            steps=ring,
            changes=trees.zeros(ring),
            curvatures=jnp.zeros(memory_size, wide),
            place=jnp.int32(0),
            params=trees.zeros(params),
            gradient=trees.zeros(params),
            value=jnp.asarray(jnp.inf, wide),
            grad=trees.zeros(params),
            evaluations=jnp.int32(0),
            known=jnp.bool_(False),
        )

    def update(
        updates: optax.Updates, state: LbfgsState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, LbfgsState]:
        value_fn, value = objective("lbfgs", params, extra)
        state = _remember(state, params, updates, curvature_eps)
        direction = trees.negative(_apply_inverse(state, updates))
        slope = trees.dot(updates, direction)
        descends = (slope < 0) & jnp.isfinite(slope)
        direction = trees.choose(descends, direction, trees.negative(updates))
        curvatures = jnp.where(descends, state.curvatures, 0)
        length = trees.norm(updates)
        informed = (curvatures > 0).any()
        initial = jnp.where(informed, 1, 1 / jnp.where(length > 0, length, 1)).astype(length.dtype)
        found = search(
            line_search, value_fn, params, value, updates, direction, initial, max_evaluations=max_evaluations
        )
        new = state._replace(
            curvatures=jnp.where(found.success, curvatures, 0),
            params=params,
            gradient=updates,
            value=found.value,
            grad=found.grad,
            evaluations=state.evaluations + found.evaluations,
            known=jnp.bool_(True),
        )
        return found.along(direction), new

    return optax.GradientTransformationExtraArgs(init, update)


def objective(name: str, params: Any, extra: dict[str, Any]) -> tuple[Any, jax.Array]:
    """`value_fn` and `value` of the extra arguments, the second computed where it is missing."""
    value_fn = extra.get("value_fn")
    if params is None or value_fn is None:
        raise ValueError(
            f"{name} searches along a line and needs the objective: call "
            "update(grads, state, params, value=value, value_fn=objective)"
        )
    value = extra.get("value")
    return value_fn, value_fn(params) if value is None else value


def _remember(state: LbfgsState, params: Any, gradient: Any, curvature_eps: float) -> LbfgsState:
    """The state with the pair of the latest update, whatever became of it since (a multiplier, a projection)."""
    step, change = trees.subtract(params, state.params), trees.subtract(gradient, state.gradient)
    curvature = trees.dot(step, change)
    least = like(curvature_eps, curvature) * trees.norm(step) * trees.norm(change)
    keep = state.known & (curvature > least) & jnp.isfinite(curvature)

    def put(ring: jax.Array, x: jax.Array) -> jax.Array:
        return ring.at[state.place].set(jnp.where(keep, x, ring[state.place]))

    return state._replace(
        steps=jax.tree.map(put, state.steps, step),
        changes=jax.tree.map(put, state.changes, change),
        curvatures=put(state.curvatures, curvature),
        place=jnp.where(keep, (state.place + 1) % state.curvatures.shape[0], state.place),
    )


def _apply_inverse(state: LbfgsState, gradient: Any) -> Any:
    """H g by the two loops, the newest pair first in the first and last in the second; absent pairs do nothing."""
    memory = state.curvatures.shape[0]

    def pair(index: jax.Array) -> tuple[Any, Any, jax.Array]:
        step, change = (jax.tree.map(lambda ring: ring[index], tree) for tree in (state.steps, state.changes))
        curvature = state.curvatures[index]
        return step, change, jnp.where(curvature > 0, 1 / jnp.where(curvature > 0, curvature, 1), 0)

    def backward(i: jax.Array, carry: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
        q, alphas = carry
        index = (state.place - 1 - i) % memory
        step, change, rho = pair(index)
        alpha = rho * trees.dot(step, q)
        return trees.add_scaled(q, -alpha, change), alphas.at[index].set(alpha)

    def forward(i: jax.Array, r: Any) -> Any:
        index = (state.place + i) % memory
        step, change, rho = pair(index)
        return trees.add_scaled(r, alphas[index] - rho * trees.dot(change, r), step)

    q, alphas = jax.lax.fori_loop(0, memory, backward, (gradient, jnp.zeros_like(state.curvatures)))
    newest = (state.place - 1) % memory
    _, change, rho = pair(newest)
    size = trees.dot(change, change)
    gamma = jnp.where((rho > 0) & (size > 0), state.curvatures[newest] / jnp.where(size > 0, size, 1), 1)
    return jax.lax.fori_loop(0, memory, forward, trees.scaled(gamma, q))
