"""Elastic averaging SGD: workers with their own parameters, tied to a center by elastic forces."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.annotations import Fraction, Interval, LearningRate, PositiveInt
from jaxtrain.optim.batch_objective import get_objective
from jaxtrain.optim.chain import cast_like
from jaxtrain.optim.param_rules import is_zero
from jaxtrain.optim.schedules import as_schedule

PositiveFraction = Annotated[float, Interval(above=0, most=1)]


class EasgdState(NamedTuple):
    """State of `easgd`.

    Attributes:
      workers: the parameters of the W workers, a leaf [W, ...] for each parameter.
      velocity: the velocities of the workers, likewise; an empty tuple without momentum.
      step: int32[], the number of updates made.
    """

    workers: Any
    velocity: Any
    step: jax.Array


def easgd(
    learning_rate: LearningRate,
    *,
    workers: PositiveInt = 4,
    moving_rate: PositiveFraction = 0.9,
    period: PositiveInt = 1,
    momentum: Fraction = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Build synchronous elastic averaging SGD (Zhang et al. 2015, equations 2, 3, 5 and 6, arXiv:1412.6651).

    The trained parameters are the center. For each worker i, with alpha = moving_rate / workers:

        x_i = x_i - learning_rate * g_i
        x_i = x_i - alpha * (x_i - center)                               every `period` steps
        center = center + moving_rate * (mean of x_i - center)           every `period` steps

    The elastic terms use the values of x_i and center from before the step.

    The gradient at the center is not used. The workers' gradients come from `worker_values(stacked) -> f[W]` of the
    extra argument `objective` (`BatchObjective`), where each worker has its part of the batch. Without it they come
    from `value_fn`, the same function for all workers.

    Args:
      learning_rate: a number or a schedule `step -> number`.
      workers: W, the number of workers.
      moving_rate: beta of the paper.
      period: tau of the paper, the number of steps between two communications.
      momentum: Nesterov's momentum of each worker (EAMSGD, section 3.2); 0 for none.

    Example:
      Three steps on (x_1^2 + 3 x_2^2) / 2:

      >>> import jax, jax.numpy as jnp, jaxtrain, optax
      >>> objective = lambda x: jnp.sum(jnp.array([1.0, 3.0]) * x**2) / 2
      >>> tx = jaxtrain.optim.easgd(0.1, workers=2)
      >>> x = jnp.array([1.0, 1.0])
      >>> state = tx.init(x)
      >>> for _ in range(3):
      ...     updates, state = tx.update(jax.grad(objective)(x), state, x, value_fn=objective)
      ...     x = optax.apply_updates(x, updates)
      ...     print(jax.device_get(x).round(3))
      [1. 1.]
      [0.91 0.73]
      [0.861 0.636]
    """
    schedule, no_momentum = as_schedule(learning_rate), is_zero(momentum)

    def init(params: optax.Params) -> EasgdState:
        stacked = jax.tree.map(lambda p: jnp.broadcast_to(p, (workers, *jnp.shape(p))), params)
        return EasgdState(stacked, () if no_momentum else jax.tree.map(jnp.zeros_like, stacked), jnp.int32(0))

    def update(
        updates: optax.Updates, state: EasgdState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, EasgdState]:
        del updates
        values = _worker_values(extra)
        if params is None or values is None:
            raise ValueError(
                "easgd needs the workers' objectives: call update(grads, state, params, "
                "objective=BatchObjective(worker_values=...)) with a function `stacked params -> f[W]`, or pass "
                "value_fn=..., one function for all workers"
            )
        kept = () if no_momentum else jax.tree.map(lambda v: cast_like(momentum, v) * v, state.velocity)
        ahead = state.workers if no_momentum else jax.tree.map(jnp.add, state.workers, kept)
        gradients = jax.grad(lambda stacked: values(stacked).sum())(ahead)
        rate = schedule(state.step)
        moved = jax.tree.map(lambda x, g: x - cast_like(rate, g) * g, ahead, gradients)
        velocity = () if no_momentum else jax.tree.map(lambda v, g: v - cast_like(rate, g) * g, kept, gradients)
        due = state.step % period == 0
        pulled, center = elastic_pull(moved, state.workers, params, moving_rate)
        stacked = jax.tree.map(lambda new, old: jnp.where(due, new, old), pulled, moved)
        change = jax.tree.map(lambda c, p: jnp.where(due, c - p, jnp.zeros_like(p)), center, params)
        return change, EasgdState(stacked, velocity, state.step + 1)

    return optax.GradientTransformationExtraArgs(init, update)


def elastic_pull(moved: Any, before: Any, center: Any, moving_rate: Any) -> tuple[Any, Any]:
    """Apply the elastic forces between workers and center, as a function of stacked parameters for custom loops.

        x_i = moved_i - beta / W * (before_i - center)
        center = center + beta * (mean of before_i - center)

    The results have the dtypes of the arguments.

    Args:
      moved: the workers after their own steps, a leaf [W, ...] for each parameter.
      before: the workers before their own steps; the forces are computed from these.
      center: the center, like the parameters.
      moving_rate: beta; the force on each worker is beta / W.

    Returns:
      The workers and the center after the pull.
    """

    def pull(m: jax.Array, x: jax.Array, c: jax.Array) -> jax.Array:
        return m - cast_like(moving_rate / x.shape[0], x) * (x - c[None])

    def follow(x: jax.Array, c: jax.Array) -> jax.Array:
        return c + cast_like(moving_rate, c) * (x.mean(axis=0) - c)

    return jax.tree.map(pull, moved, before, center), jax.tree.map(follow, before, center)


def _worker_values(extra: dict[str, Any]) -> Any:
    if (values := get_objective(extra).worker_values) is not None:
        return values
    return jax.vmap(extra["value_fn"]) if extra.get("value_fn") is not None else None
