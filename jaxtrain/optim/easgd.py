"""Elastic averaging: workers that explore on their own, tied to a center by springs."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.config.annotations import Fraction, Interval, LearningRate, PositiveInt
from jaxtrain.optim.batch_objective import objective_of
from jaxtrain.optim.chain import like
from jaxtrain.optim.param_rules import is_zero
from jaxtrain.optim.schedules import as_schedule

Share = Annotated[float, Interval(above=0, most=1)]


class EasgdState(NamedTuple):
    """State of `easgd`.

    Attributes:
      workers: their parameters, a leaf [W, ...] for each.
      velocity: their velocities likewise; empty without momentum.
      step: int32[], updates made.
    """

    workers: Any
    velocity: Any
    step: jax.Array


def easgd(
    learning_rate: LearningRate,
    *,
    workers: PositiveInt = 4,
    moving_rate: Share = 0.9,
    period: PositiveInt = 1,
    momentum: Fraction = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Elastic averaging SGD, synchronous (Zhang et al. 2015, equations 2, 3, 5 and 6). What is trained is the center.

    Each worker i takes x_i -= learning_rate * g_i, and every `period` steps the springs act besides:
    x_i -= alpha * (x_i - center), center += moving_rate * (mean of x_i - center), both with the values from before
    the step, alpha = moving_rate / workers.

    The gradients are the workers' own: of `worker_values(stacked) -> f[W]` in the extra argument `objective`
    (`BatchObjective`), in which each worker has its part of the batch; or else of `value_fn`, the same for all. The
    gradient at the center is not used.

    Args:
      learning_rate: a number or a schedule.
      workers: W, how many.
      moving_rate: beta of the paper.
      period: tau of the paper, steps between two communications.
      momentum: Nesterov's, of each worker (EAMSGD, section 3.2); 0 for none.
    """
    schedule, still = as_schedule(learning_rate), is_zero(momentum)

    def init(params: optax.Params) -> EasgdState:
        stacked = jax.tree.map(lambda p: jnp.broadcast_to(p, (workers, *jnp.shape(p))), params)
        return EasgdState(stacked, () if still else jax.tree.map(jnp.zeros_like, stacked), jnp.int32(0))

    def update(
        updates: optax.Updates, state: EasgdState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, EasgdState]:
        del updates
        values = _worker_values(extra)
        if params is None or values is None:
            raise ValueError(
                "easgd needs the workers' objectives: call update(grads, state, params, "
                "objective=BatchObjective(worker_values=...)), a function of stacked parameters that gives a value for "
                "each, or value_fn=... for all"
            )
        kept = () if still else jax.tree.map(lambda v: like(momentum, v) * v, state.velocity)
        ahead = state.workers if still else jax.tree.map(jnp.add, state.workers, kept)
        gradients = jax.grad(lambda stacked: values(stacked).sum())(ahead)
        rate = schedule(state.step)
        moved = jax.tree.map(lambda x, g: x - like(rate, g) * g, ahead, gradients)
        velocity = () if still else jax.tree.map(lambda v, g: v - like(rate, g) * g, kept, gradients)
        due = state.step % period == 0
        pulled, center = elastic_pull(moved, state.workers, params, moving_rate)
        stacked = jax.tree.map(lambda new, old: jnp.where(due, new, old), pulled, moved)
        change = jax.tree.map(lambda c, p: jnp.where(due, c - p, jnp.zeros_like(p)), center, params)
        return change, EasgdState(stacked, velocity, state.step + 1)

    return optax.GradientTransformationExtraArgs(init, update)


def elastic_pull(moved: Any, before: Any, center: Any, moving_rate: Any) -> tuple[Any, Any]:
    """The springs between workers and center, as a function of stacked parameters for loops of one's own.

    x_i = moved_i - beta / W * (before_i - center), center += beta * (mean of before_i - center), in the dtypes given.

    Args:
      moved: the workers after their own steps, a leaf [W, ...] for each parameter.
      before: the workers before them, from which the forces are taken.
      center: like the parameters.
      moving_rate: beta; each worker feels beta / W.

    Returns:
      The workers and the center after the pull.
    """

    def pull(m: jax.Array, x: jax.Array, c: jax.Array) -> jax.Array:
        return m - like(moving_rate / x.shape[0], x) * (x - c[None])

    def follow(x: jax.Array, c: jax.Array) -> jax.Array:
        return c + like(moving_rate, c) * (x.mean(axis=0) - c)

    return jax.tree.map(pull, moved, before, center), jax.tree.map(follow, before, center)


def _worker_values(extra: dict[str, Any]) -> Any:
    if (values := objective_of(extra).worker_values) is not None:
        return values
    return jax.vmap(extra["value_fn"]) if extra.get("value_fn") is not None else None
