"""Schedule-free learning."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.config.annotations import InnerOptimizer, Interval, LearningRate, NonNegativeFloat
from jaxtrain.optim.schedules import as_schedule
from jaxtrain.optim.trees import is_masked

Inside = Annotated[float, Interval(above=0, below=1)]


class ScheduleFreeState(NamedTuple):
    """State of `schedule_free`.

    Attributes:
      inner: of the optimizer inside.
      z: the iterate that it moves, like the parameters.
      weight: f[], the sum of the weights of the average.
      highest: f[], the highest learning rate so far.
      b1: f[], the interpolation.
      step: int32[], updates made.
    """

    inner: Any
    z: Any
    weight: jax.Array
    highest: jax.Array
    b1: jax.Array
    step: jax.Array

    def evaluation_params(self, params: Any) -> Any:
        """The average x, from y = (1 - b1) * z + b1 * x, which is trained."""

        def x(z: Any, y: jax.Array) -> jax.Array:
            b1 = self.b1.astype(y.dtype)
            return y if is_masked(z) else (y - (1 - b1) * z) / b1

        return jax.tree.map(x, self.z, params, is_leaf=is_masked)


def schedule_free(
    inner: InnerOptimizer, *, learning_rate: LearningRate, b1: Inside = 0.9, weight_power: NonNegativeFloat = 2.0
) -> optax.GradientTransformationExtraArgs:
    """Schedule-free learning (Defazio et al. 2024, equations 3 to 5) around an optimizer without momentum.

    `inner` moves z; x is the average of all z; what is trained is y = (1 - b1) * z + b1 * x. Evaluation uses x.

    Args:
      inner: an optimizer without momentum, at a constant rate, warmed up where wanted: `sgd`, or `adam` with b1=0.
      learning_rate: the same as that of `inner`; a z weighs as the highest rate so far to `weight_power`.
      b1: the interpolation, which takes the place of momentum.
      weight_power: 0 weighs all alike; 2 discounts a warm-up.
    """
    inner, schedule = optax.with_extra_args_support(inner), as_schedule(learning_rate)

    def init(params: optax.Params) -> ScheduleFreeState:
        z = jax.tree.map(jnp.array, params)
        weight, highest, mix = (jnp.asarray(value, jnp.result_type(float)) for value in (0, 0, b1))
        return ScheduleFreeState(inner.init(params), z, weight, highest, mix, jnp.int32(0))

    def update(
        updates: optax.Updates, state: ScheduleFreeState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, ScheduleFreeState]:
        if params is None:
            raise ValueError("schedule_free needs the parameters: call update(grads, state, params)")
        updates, inside = inner.update(updates, state.inner, params, **extra)
        highest = jnp.maximum(state.highest, jnp.asarray(schedule(state.step)).astype(state.highest.dtype))
        weight = highest**weight_power
        total = state.weight + weight
        share = jnp.where(total > 0, weight / jnp.where(total > 0, total, 1), 0)

        def step(y: jax.Array, z: jax.Array, u: jax.Array) -> jax.Array:
            mix, c = (jnp.asarray(v).astype(y.dtype) for v in (b1, share))
            x = (y - (1 - mix) * z) / mix
            x = (1 - c) * x + c * (z + u)
            return mix * x + (1 - mix) * (z + u) - y

        change = jax.tree.map(step, params, state.z, updates)
        z = jax.tree.map(jnp.add, state.z, updates)
        return change, ScheduleFreeState(inside, z, total, highest, state.b1, state.step + 1)

    return optax.GradientTransformationExtraArgs(init, update)
