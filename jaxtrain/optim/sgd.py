"""Gradient descent and its momenta."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.config.annotations import Fraction, LearningRate, Momentum
from jaxtrain.optim.chain import chain, like
from jaxtrain.optim.param_rules import WeightDecay, add_weight_decay, is_zero


def sgd(
    learning_rate: LearningRate, *, momentum: Fraction = 0.0, nesterov: bool = False, weight_decay: WeightDecay = 0.0
) -> optax.GradientTransformationExtraArgs:
    """Stochastic gradient descent: v = momentum * v + g, x -= learning_rate * v; torch's `SGD` with dampening 0.

    Args:
      learning_rate: a number or a schedule `step -> number`; it multiplies the velocity (outside form).
      momentum: decay of the velocity; 0 keeps none.
      nesterov: steps along g + momentum * v (Sutskever et al. 2013), exact at a constant learning rate.
      weight_decay: added to the gradient as `weight_decay * x` before the momentum; the gradient of the penalty
        `weight_decay / 2 * |x|^2`. A number is for every parameter; rules `(regex, value)` go by path.
    """
    if nesterov and is_zero(momentum):
        raise ValueError("nesterov=True needs a momentum above 0")
    parts = [add_weight_decay(weight_decay)]
    if not is_zero(momentum):
        parts.append(optax.trace(momentum, nesterov=nesterov))
    return chain(*parts, optax.scale_by_learning_rate(learning_rate))


def momentum(
    learning_rate: LearningRate,
    *,
    momentum: Momentum = 0.9,
    lr_placement: Literal["inside", "outside"] = "inside",
    weight_decay: WeightDecay = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Classical momentum in either of its published forms, which differ as soon as the learning rate changes.

    Inside: v = momentum_t * v - learning_rate_t * g, x += v (Krizhevsky et al. 2012, section 5; Sutskever et al. 2013,
    equations 1 and 2; Caffe). A velocity keeps the rates at which it was gained.
    Outside: v = momentum_t * v + g, x -= learning_rate_t * v (torch's `SGD`). A new rate acts on all of it at once.

    Args:
      learning_rate: a number or a schedule.
      momentum: decay of the velocity, a number or a schedule.
      lr_placement: which of the two forms.
      weight_decay: added to the gradient as `weight_decay * x`; a number, or rules `(regex, value)` by path.
    """
    rate, velocity = optax.scale_by_learning_rate(learning_rate), accumulate(momentum)
    parts = (rate, velocity) if lr_placement == "inside" else (velocity, rate)
    return chain(add_weight_decay(weight_decay), *parts)


def nesterov(
    learning_rate: LearningRate, *, momentum: Momentum = 0.9, weight_decay: WeightDecay = 0.0
) -> optax.GradientTransformationExtraArgs:
    """Nesterov's accelerated gradient, exact under any schedule of the learning rate and of the momentum.

    The look-ahead form is v' = m_t v - lr_t g(x + m_t v), x' = x + v' (Sutskever et al. 2013, equations 3 and 4).
    The parameters held here are the points y = x + m_t v at which gradients are taken, so that
    y' = y - m_t v + (1 + m_t') v' with m_t' the momentum of the next step. torch's and optax's `nesterov=True` keep the
    rate outside and are this at a constant rate alone.

    Args:
      learning_rate: a number or a schedule.
      momentum: a number or a schedule.
      weight_decay: added to the gradient as `weight_decay * y`; a number, or rules `(regex, value)` by path.
    """
    rate, velocity = optax.scale_by_learning_rate(learning_rate), accumulate(momentum, look_ahead=True)
    return chain(add_weight_decay(weight_decay), rate, velocity)


class VelocityState(NamedTuple):
    """State of `accumulate`.

    Attributes:
      velocity: like the parameters.
      step: int32[], updates made; an empty tuple where the momentum is fixed.
    """

    velocity: Any
    step: Any


def accumulate(momentum: Momentum, *, look_ahead: bool = False) -> optax.GradientTransformation:
    """v' = momentum_t * v + u for updates u; gives v', or looking ahead -momentum_t * v + (1 + momentum_t+1) * v'.

    The second is computed as u + momentum_t+1 * v', which is the same.

    Args:
      momentum: a number or a schedule.
      look_ahead: whether the parameters are the points at which Nesterov's rule takes gradients.
    """

    def init(params: optax.Params) -> VelocityState:
        return VelocityState(jax.tree.map(jnp.zeros_like, params), jnp.int32(0) if callable(momentum) else ())

    def update(updates: optax.Updates, state: VelocityState, params: optax.Params | None = None) -> Any:
        del params
        if callable(momentum):
            step = state.step + 1
            now, after = momentum(state.step), momentum(step)
        else:
            step, now, after = state.step, momentum, momentum
        velocity = jax.tree.map(lambda u, v: u + like(now, v) * v, updates, state.velocity)
        if not look_ahead:
            return velocity, VelocityState(velocity, step)
        ahead = jax.tree.map(lambda u, v: u + like(after, v) * v, updates, velocity)
        return ahead, VelocityState(velocity, step)

    return optax.GradientTransformation(init, update)
