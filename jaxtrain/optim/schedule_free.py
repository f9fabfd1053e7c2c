"""Schedule-free learning: interpolation and averaging in place of momentum and a schedule."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.annotations import InnerOptimizer, Interval, LearningRate, NonNegativeFloat
from jaxtrain.optim.schedules import as_schedule
from jaxtrain.optim.trees import is_masked

OpenFraction = Annotated[float, Interval(above=0, below=1)]


class ScheduleFreeState(NamedTuple):
    """State of `schedule_free`.

    Attributes:
      inner: the state of the inner optimizer.
      z: the iterate of the inner optimizer, like the parameters.
      weight: f[], the sum of the weights of the average.
      highest: f[], the highest learning rate so far.
      b1: f[], the interpolation.
      step: int32[], the number of updates made.
    """

    inner: Any
    z: Any
    weight: jax.Array
    highest: jax.Array
    b1: jax.Array
    step: jax.Array

    def evaluation_params(self, params: Any) -> Any:
        """Return the average x, computed from the trained y = (1 - b1) * z + b1 * x."""

        def x(z: Any, y: jax.Array) -> jax.Array:
            b1 = self.b1.astype(y.dtype)
            return y if is_masked(z) else (y - (1 - b1) * z) / b1

        return jax.tree.map(x, self.z, params, is_leaf=is_masked)


def schedule_free(
    inner: InnerOptimizer, *, learning_rate: LearningRate, b1: OpenFraction = 0.9, weight_power: NonNegativeFloat = 2.0
) -> optax.GradientTransformationExtraArgs:
    """Build schedule-free learning (Defazio et al. 2024, equations 3 to 5, arXiv:2405.15682) around another optimizer.

        z = z + the update of `inner` for the gradient at y
        x = (1 - c) * x + c * z          c: the weight of z over the sum of all weights so far
        y = (1 - b1) * z + b1 * x

    The trained parameters are y. Evaluation uses the average x.

    Args:
      inner: an optimizer without momentum, at a constant learning rate (with a warm-up if needed): `sgd`, or `adam`
        with b1=0.
      learning_rate: the learning rate of `inner`; the weight of z is the highest rate so far to the power
        `weight_power`.
      b1: the interpolation, which takes the place of momentum.
      weight_power: the power of the weights; 0 weighs all z alike, 2 gives those of a warm-up less weight.

    Example:
      Three steps on (x_1^2 + 3 x_2^2) / 2:

      >>> import jax, jax.numpy as jnp, jaxtrain, optax
      >>> tx = jaxtrain.optim.schedule_free(jaxtrain.optim.sgd(0.1), learning_rate=0.1)
      >>> x = jnp.array([1.0, 1.0])
      >>> state = tx.init(x)
      >>> for _ in range(3):
      ...     updates, state = tx.update(jnp.array([1.0, 3.0]) * x, state, x)
      ...     x = optax.apply_updates(x, updates)
      ...     print(jax.device_get(x).round(3))
      [0.9 0.7]
      [0.851 0.584]
      [0.803 0.483]
      >>> print(jax.device_get(state.evaluation_params(x)).round(3))
      [0.812 0.502]
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
        updates, inner_state = inner.update(updates, state.inner, params, **extra)
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
        return change, ScheduleFreeState(inner_state, z, total, highest, state.b1, state.step + 1)

    return optax.GradientTransformationExtraArgs(init, update)
