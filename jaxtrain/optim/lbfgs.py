"""L-BFGS: an implicit approximation of the inverse Hessian from the last few steps."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.annotations import NonNegativeFloat, PositiveInt
from jaxtrain.optim import trees
from jaxtrain.optim.chain import cast_like
from jaxtrain.optim.line_search import LineSearchKind, search


class LbfgsState(NamedTuple):
    """State of `lbfgs`; it holds 2m + 3 copies of the parameters.

    Attributes:
      steps: the last m steps in a ring buffer, a leaf [m, ...] for each parameter.
      changes: the changes of the gradient over those steps, likewise.
      curvatures: f[m], step'change of each pair; 0 if there is no pair.
      place: int32[], the index of the next pair in the ring buffer.
      params: the parameters before the latest update.
      gradient: the gradient before the latest update.
      value: f[], the objective after the latest update; infinite before the first.
      grad: the gradient after the latest update. `optax.value_and_grad_from_state` finds both and saves an evaluation.
      evaluations: int32[], the number of evaluations of the objective in all updates.
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
    line_search: LineSearchKind = "strong_wolfe",
    max_evaluations: PositiveInt = 20,
    curvature_eps: NonNegativeFloat = 1e-10,
) -> optax.GradientTransformationExtraArgs:
    """Build limited-memory BFGS (Nocedal 1980; Liu & Nocedal 1989; Nocedal & Wright 2006, algorithms 7.4 and 7.5).

        x' = x - t H g     t by a line search, H g by the two-loop recursion

    H is built from the last m pairs of a step s and the change y of the gradient. It starts from (s'y / y'y) I of the
    newest pair. A pair is kept only if s'y > curvature_eps * |s| |y|. So H is positive definite, and the direction
    descends even if the objective is not convex. If rounding breaks that, or a search fails, the memory is cleared and
    the next direction is that of steepest descent.

    An update never raises the objective beyond the rounding of its value. If nothing lowers it, or the gradient is not
    finite, the update is 0.

    The objective must be the same at each step: the full batch, no dropout, no augmentation.
    `update` needs `params` and `value_fn`, and accepts `value`.

    Args:
      memory_size: m, the number of pairs that are kept.
      line_search: the kind of line search, "strong_wolfe" (c1 = 1e-4, c2 = 0.9) or "armijo".
      max_evaluations: the largest number of evaluations of the objective in a line search.
      curvature_eps: the least cosine of s and y for a pair to be kept.

    Example:
      Three steps on (x_1^2 + 3 x_2^2) / 2:

      >>> import jax, jax.numpy as jnp, jaxtrain, optax
      >>> def objective(x):
      ...     return jnp.sum(jnp.array([1.0, 3.0]) * x**2) / 2
      >>> tx = jaxtrain.optim.lbfgs(memory_size=2)
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
      [ 0.02  -0.019]
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
        value_fn, value = require_objective("lbfgs", params, extra)
        state = _remember(state, params, updates, curvature_eps)
        direction = trees.negative(_apply_inverse(state, updates))
        slope = trees.dot(updates, direction)
        descends = (slope < 0) & jnp.isfinite(slope)
        direction = trees.choose(descends, direction, trees.negative(updates))
        curvatures = jnp.where(descends, state.curvatures, 0)
        length = trees.norm(updates)
        informed = (curvatures > 0).any()
        initial = jnp.where(informed, 1, 1 / jnp.where(length > 0, length, 1)).astype(length.dtype)
        result = search(
            line_search, value_fn, params, value, updates, direction, initial, max_evaluations=max_evaluations
        )
        new = state._replace(
            curvatures=jnp.where(result.success, curvatures, 0),
            params=params,
            gradient=updates,
            value=result.value,
            grad=result.grad,
            evaluations=state.evaluations + result.evaluations,
            known=jnp.bool_(True),
        )
        return result.along(direction), new

    return optax.GradientTransformationExtraArgs(init, update)


def require_objective(name: str, params: Any, extra: dict[str, Any]) -> tuple[Any, jax.Array]:
    """Return `value_fn` and `value` from the extra arguments of an update; compute `value` if it is missing."""
    value_fn = extra.get("value_fn")
    if params is None or value_fn is None:
        raise ValueError(
            f"{name} needs the objective for its line search: call "
            "update(grads, state, params, value=value, value_fn=objective)"
        )
    value = extra.get("value")
    return value_fn, value_fn(params) if value is None else value


def _remember(state: LbfgsState, params: Any, gradient: Any, curvature_eps: float) -> LbfgsState:
    """Return the state with the pair of the latest update.

    The step is taken from the parameters: other transformations (a multiplier, a projection) may have changed the
    update.
    """
    step, change = trees.subtract(params, state.params), trees.subtract(gradient, state.gradient)
    curvature = trees.dot(step, change)
    least = cast_like(curvature_eps, curvature) * trees.norm(step) * trees.norm(change)
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
    """Return H g by the two-loop recursion.

    The first loop begins with the newest pair and the second ends with it; missing pairs have no effect.
    """
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
    return jax.lax.fori_loop(0, memory, forward, trees.scale(gamma, q))
