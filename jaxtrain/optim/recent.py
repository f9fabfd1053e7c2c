"""Rules of recent years: Muon, Prodigy."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from jaxtrain.config.annotations import Fraction, LearningRate, PositiveFloat, PositiveInt
from jaxtrain.optim import trees
from jaxtrain.optim.first_order import chain, like
from jaxtrain.optim.promotion import with_standard_promotion
from jaxtrain.optim.rules import WeightDecay, add_weight_decay, values_by_path
from jaxtrain.optim.schedules import as_schedule


def muon(
    learning_rate: LearningRate,
    *,
    momentum: Fraction = 0.95,
    nesterov: bool = True,
    newton_schulz_steps: PositiveInt = 5,
    adam_scale: PositiveFloat = 0.1,
    b1: Fraction = 0.9,
    b2: Fraction = 0.999,
    eps: PositiveFloat = 1e-8,
    weight_decay: WeightDecay = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Muon (Jordan et al. 2024): the momentum of each matrix, orthogonalized by a Newton-Schulz iteration.

    A kernel of a convolution, [H, W, I, O], is the matrix [H * W * I, O]. Everything else is updated by Adam. A matrix
    step is scaled by sqrt(max(1, outputs / inputs)).

    Args:
      learning_rate: a number or a schedule, of the matrices.
      momentum: decay of the running mean of gradients.
      nesterov: whether that looks one step ahead.
      newton_schulz_steps: iterations.
      adam_scale: learning rate of Adam's part, as a multiple of `learning_rate`.
      b1: decay of Adam's first moment.
      b2: decay of Adam's second moment.
      eps: of both parts.
      weight_decay: decoupled, multiplied by the learning rate; a number, or rules `(regex, value)` by path.
    """
    numbers = optax.contrib.MuonDimensionNumbers

    def dimensions(params: Any) -> Any:
        def of(p: Any) -> Any:
            last = jnp.ndim(p) - 1
            return numbers(reduction_axis=tuple(range(last)), output_axis=last) if last in (1, 3) else None

        return jax.tree.map(of, params)

    rule = optax.contrib.muon(
        -1.0,
        ns_steps=newton_schulz_steps,
        beta=momentum,
        eps=eps,
        nesterov=nesterov,
        adam_b1=b1,
        adam_b2=b2,
        adam_learning_rate=-adam_scale,
        muon_weight_dimension_numbers=dimensions,
    )
    rate = optax.scale_by_learning_rate(learning_rate)
    return chain(with_standard_promotion(rule), add_weight_decay(weight_decay), rate)


class ProdigyState(NamedTuple):
    """State of `prodigy`; trees are like the parameters, in float32 at least.

    Attributes:
      first: running mean of d * g.
      second: running mean of (d * g)^2.
      weighted: s of the paper, the weighted sum of gradients.
      start: x_0, the parameters before the first step.
      distance: f[], d, the estimate of the distance from x_0 to the solution.
      progress: f[], r of the paper, the weighted sum of the inner products of g and x_0 - x.
      step: int32[], updates made.
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
    """Prodigy (Mishchenko & Defazio 2024, algorithm 4): Adam, with an estimate d of the way to go as its rate.

    With a = learning_rate * d * sqrt(1 - b2^t) / (1 - b1^t) and c = sqrt(b2):
    r = c * r + d * a * <g, x_0 - x>, s = c * s + d * a * g, d = max(d, r / |s|_1), x -= a * m / (sqrt(v) + d * eps).
    The bias correction in a is as in optax's `prodigy`; the authors' program leaves it off unless asked. optax's divides
    0 by 0, and gives NaN from then on, while all gradients or learning rates so far are 0; here the estimate waits.

    Args:
      learning_rate: multiplies the estimate; 1, or a schedule with a peak of 1.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added outside the root, times the estimate.
      initial_estimate: d at first; too low costs some steps, too high may diverge.
      estimate_factor: multiplies each estimate.
      safeguard_warmup: s takes d^2 * g instead, without the learning rate, so that a long warm-up does not raise d.
      weight_decay: decoupled, multiplied by a; a number, or rules `(regex, value)` by path.
    """
    schedule = as_schedule(learning_rate)

    def init(params: optax.Params) -> ProdigyState:
        start = jax.tree.map(lambda p: jnp.array(p, trees.widest(p)), params)
        zeros, scalar = trees.zeros(start), trees.widest(params)
        d, r = jnp.asarray(initial_estimate, scalar), jnp.zeros((), scalar)
        return ProdigyState(zeros, zeros, zeros, start, d, r, jnp.int32(0))

    def update(updates: optax.Updates, state: ProdigyState, params: optax.Params | None = None) -> Any:
        if params is None:
            raise ValueError("prodigy needs the parameters: call update(grads, state, params)")
        decays = values_by_path(weight_decay, params, "optimizer.weight_decay")
        x, g = (jax.tree.map(lambda a, b: a.astype(b.dtype), tree, state.start) for tree in (params, updates))
        d, t, keep = state.distance, (state.step + 1).astype(state.distance.dtype), b2**0.5
        rate = jnp.asarray(schedule(state.step)).astype(d.dtype) * d * jnp.sqrt(1 - b2**t) / (1 - b1**t)
        relative = d / initial_estimate  # keeps r and s away from underflow; their ratio does not change

        first = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * like(d, g) * g, state.first, g)
        second = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * jnp.square(like(d, g) * g), state.second, g)
        weight = relative * (d if safeguard_warmup else rate)
        weighted = jax.tree.map(lambda s, g: keep * s + like(weight, g) * g, state.weighted, g)
        progress = keep * state.progress + relative * rate * trees.dot(g, trees.subtract(state.start, x))
        total = sum((jnp.abs(s).sum().astype(d.dtype) for s in jax.tree.leaves(weighted)), start=jnp.zeros_like(d))
        estimate = estimate_factor * progress / jnp.where(total > 0, total, 1)
        distance = jnp.where(total > 0, jnp.maximum(d, estimate), d)

        def step(u: jax.Array, m: jax.Array, v: jax.Array, p: jax.Array, decay: Any) -> jax.Array:
            along = m / (jnp.sqrt(v) + like(distance * eps, v))
            return (-like(rate, m) * (along + decay * p)).astype(u.dtype)

        updates = jax.tree.map(step, updates, first, second, x, decays)
        return updates, ProdigyState(first, second, weighted, state.start, distance, progress, state.step + 1)

    return optax.with_extra_args_support(optax.GradientTransformation(init, update))
