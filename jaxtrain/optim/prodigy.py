"""Prodigy: Adam that estimates its own learning rate."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from jaxtrain.annotations import Fraction, LearningRate, PositiveFloat
from jaxtrain.optim import trees
from jaxtrain.optim.chain import cast_like
from jaxtrain.optim.param_rules import WeightDecay, values_by_path
from jaxtrain.optim.schedules import as_schedule


class ProdigyState(NamedTuple):
    """State of `prodigy`; trees are like the parameters, in float32 at least.

    Attributes:
      first: the running mean of d * g.
      second: the running mean of (d * g)^2.
      weighted: s of the paper, the weighted sum of gradients.
      start: x_0, the parameters before the first step.
      distance: f[], d, the estimate of the distance from x_0 to the solution.
      progress: f[], r of the paper, the weighted sum of the inner products of g and x_0 - x.
      step: int32[], the number of updates made.
    """

    first: Any
    second: Any
    weighted: Any
    start: Any
    distance: jax.Array
    progress: jax.Array
    step: jax.Array


def prodigy(
    learning_rate: LearningRate = 1.0,
    *,
    b1: Fraction = 0.9,
    b2: Fraction = 0.999,
    eps: PositiveFloat = 1e-8,
    initial_estimate: PositiveFloat = 1e-6,
    estimate_factor: PositiveFloat = 1.0,
    safeguard_warmup: bool = False,
    weight_decay: WeightDecay = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Build Prodigy (Mishchenko & Defazio 2024, algorithm 4, arXiv:2306.06101): Adam with an estimated learning rate d.

    Update number t = 1, 2, ..., with d the estimate of the distance from x_0 to the solution:

        a = learning_rate * d * sqrt(1 - b2^t) / (1 - b1^t),    c = sqrt(b2)
        m = b1 * m + (1 - b1) * d * g
        v = b2 * v + (1 - b2) * (d * g)^2
        r = c * r + d * a * <g, x_0 - x>
        s = c * s + d * a * g
        d = max(d, r / |s|_1)
        x = x - a * m / (sqrt(v) + d * eps)

    The bias correction in a is the same as in optax's `prodigy`; the authors' program omits it unless asked. While all
    gradients or learning rates so far are 0, optax's divides 0 by 0 and is NaN from then on; here d stays as it is.

    Args:
      learning_rate: the factor of the estimate; 1, or a schedule with a peak of 1.
      b1: the decay of the first moment m.
      b2: the decay of the second moment v.
      eps: a small number, multiplied by the estimate and added outside the root.
      initial_estimate: d before the first step. If it is too low, some steps are lost; if too high, the run may
        diverge.
      estimate_factor: the factor of each estimate r / |s|_1.
      safeguard_warmup: whether s adds up d^2 * g, without the learning rate, so that a long warm-up does not raise d.
      weight_decay: decoupled weight decay, multiplied by a; a number, or rules `(regex, value)` by path.

    Example:
      Three steps on (x_1^2 + 3 x_2^2) / 2:

      >>> import jax, jax.numpy as jnp, jaxtrain, optax
      >>> tx = jaxtrain.optim.prodigy(initial_estimate=0.1)
      >>> x = jnp.array([1.0, 1.0])
      >>> state = tx.init(x)
      >>> for _ in range(3):
      ...     updates, state = tx.update(jnp.array([1.0, 3.0]) * x, state, x)
      ...     x = optax.apply_updates(x, updates)
      ...     print(jax.device_get(x).round(3))
      [0.9 0.9]
      [0.8 0.8]
      [0.702 0.702]
    """
    schedule = as_schedule(learning_rate)

    def init(params: optax.Params) -> ProdigyState:
        start = jax.tree.map(lambda p: jnp.array(p, trees.widest(p)), params)
        first, second, weighted = (trees.zeros(start) for _ in range(3))  # separate buffers: a step may donate them
        d, r = (jnp.asarray(value, trees.widest(params)) for value in (initial_estimate, 0))
        return ProdigyState(first, second, weighted, start, d, r, jnp.int32(0))

    def update(updates: optax.Updates, state: ProdigyState, params: optax.Params | None = None) -> Any:
        if params is None:
            raise ValueError("prodigy needs the parameters: call update(grads, state, params)")
        decays = values_by_path(weight_decay, params, "optimizer.weight_decay")
        x, g = (jax.tree.map(lambda a, b: a.astype(b.dtype), tree, state.start) for tree in (params, updates))
        d, t, keep = state.distance, (state.step + 1).astype(state.distance.dtype), b2**0.5
        rate = jnp.asarray(schedule(state.step)).astype(d.dtype) * d * jnp.sqrt(1 - b2**t) / (1 - b1**t)
        relative = d / initial_estimate  # prevents underflow of r and s; their ratio does not change

        first = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * cast_like(d, g) * g, state.first, g)
        second = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * jnp.square(cast_like(d, g) * g), state.second, g)
        weight = relative * (d if safeguard_warmup else rate)
        weighted = jax.tree.map(lambda s, g: keep * s + cast_like(weight, g) * g, state.weighted, g)
        progress = keep * state.progress + relative * rate * trees.dot(g, trees.subtract(state.start, x))
        total = sum((jnp.abs(s).sum().astype(d.dtype) for s in jax.tree.leaves(weighted)), start=jnp.zeros_like(d))
        estimate = estimate_factor * progress / jnp.where(total > 0, total, 1)
        distance = jnp.where(total > 0, jnp.maximum(d, estimate), d)

        def step(u: jax.Array, m: jax.Array, v: jax.Array, p: jax.Array, decay: Any) -> jax.Array:
            along = m / (jnp.sqrt(v) + cast_like(distance * eps, v))
            return (-cast_like(rate, m) * (along + decay * p)).astype(u.dtype)

        updates = jax.tree.map(step, updates, first, second, x, decays)
        return updates, ProdigyState(first, second, weighted, state.start, distance, progress, state.step + 1)

    return optax.with_extra_args_support(optax.GradientTransformation(init, update))
