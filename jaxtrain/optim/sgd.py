"""Gradient descent without momentum, with classical momentum and with Nesterov's momentum."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.annotations import Fraction, LearningRate, Momentum
from jaxtrain.optim.chain import cast_like, chain
from jaxtrain.optim.param_rules import WeightDecay, add_weight_decay, is_zero


def sgd(
    learning_rate: LearningRate, *, momentum: Fraction = 0.0, nesterov: bool = False, weight_decay: WeightDecay = 0.0
) -> optax.GradientTransformationExtraArgs:
    """Build stochastic gradient descent (Robbins & Monro 1951), the same as torch's `SGD` with dampening 0.

    Update with the gradient g:

        g = g + weight_decay * x
        v = momentum * v + g
        x = x - learning_rate * v                      without Nesterov
        x = x - learning_rate * (g + momentum * v)     with Nesterov (Sutskever et al. 2013)

    Args:
      learning_rate: a number or a schedule `step -> number`; it multiplies the velocity v (outside form).
      momentum: the decay of the velocity; 0 keeps no velocity.
      nesterov: whether to use Nesterov's momentum; this form is exact at a constant learning rate only, see `nesterov`.
      weight_decay: weight decay; the gradient of the penalty `weight_decay / 2 * |x|^2`. A number applies to every
        parameter; rules `(regex, value)` apply by path.

    Example:
      Three steps on (x_1^2 + 3 x_2^2) / 2:

      >>> import jax, jax.numpy as jnp, jaxtrain, optax
      >>> tx = jaxtrain.optim.sgd(0.1, momentum=0.9)
      >>> x = jnp.array([1.0, 1.0])
      >>> state = tx.init(x)
      >>> for _ in range(3):
      ...     updates, state = tx.update(jnp.array([1.0, 3.0]) * x, state, x)
      ...     x = optax.apply_updates(x, updates)
      ...     print(jax.device_get(x).round(3))
      [0.9 0.7]
      [0.72 0.22]
      [ 0.486 -0.278]
    """
    if nesterov and is_zero(momentum):
        raise ValueError("nesterov=True needs a momentum above 0; set momentum, such as 0.9")
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
    """Build classical momentum (Polyak 1964) in either of its published forms.

    Update with the gradient g, after g = g + weight_decay * x:

        "inside":    v = momentum_t * v - learning_rate_t * g,    x = x + v
        "outside":   v = momentum_t * v + g,                      x = x - learning_rate_t * v

    The forms differ as soon as the learning rate changes. "inside" is that of Krizhevsky et al. 2012 (section 5),
    Sutskever et al. 2013 (equations 1 and 2) and Caffe: the velocity keeps the learning rates at which it was
    accumulated. "outside" is torch's `SGD`: a new learning rate applies to the whole velocity at once.

    Args:
      learning_rate: a number or a schedule `step -> number`.
      momentum: the decay of the velocity, a number or a schedule.
      lr_placement: the form, "inside" or "outside".
      weight_decay: decay added to the gradient as `weight_decay * x`; a number, or rules `(regex, value)` by path.

    Example:
      Three steps on (x_1^2 + 3 x_2^2) / 2:

      >>> import jax, jax.numpy as jnp, jaxtrain, optax
      >>> tx = jaxtrain.optim.momentum(0.1, momentum=0.9)
      >>> x = jnp.array([1.0, 1.0])
      >>> state = tx.init(x)
      >>> for _ in range(3):
      ...     updates, state = tx.update(jnp.array([1.0, 3.0]) * x, state, x)
      ...     x = optax.apply_updates(x, updates)
      ...     print(jax.device_get(x).round(3))
      [0.9 0.7]
      [0.72 0.22]
      [ 0.486 -0.278]
    """
    rate, velocity = optax.scale_by_learning_rate(learning_rate), accumulate(momentum)
    parts = (rate, velocity) if lr_placement == "inside" else (velocity, rate)
    return chain(add_weight_decay(weight_decay), *parts)


def nesterov(
    learning_rate: LearningRate, *, momentum: Momentum = 0.9, weight_decay: WeightDecay = 0.0
) -> optax.GradientTransformationExtraArgs:
    """Build Nesterov's accelerated gradient, exact under any schedule of the learning rate and of the momentum.

    The look-ahead form (Nesterov 1983; Sutskever et al. 2013, equations 3 and 4) takes gradients at x + m_t v:

        v' = m_t v - lr_t g(x + m_t v)
        x' = x + v'

    The parameters held here are those points, y = x + m_t v. With m_t' the momentum of the next step:

        y' = y - m_t v + (1 + m_t') v'

    torch's and optax's `nesterov=True` keep the learning rate outside. They equal this at a constant learning rate
    only.

    Args:
      learning_rate: a number or a schedule `step -> number`.
      momentum: the decay of the velocity, a number or a schedule.
      weight_decay: decay added to the gradient as `weight_decay * y`; a number, or rules `(regex, value)` by path.

    Example:
      Three steps on (x_1^2 + 3 x_2^2) / 2:

      >>> import jax, jax.numpy as jnp, jaxtrain, optax
      >>> tx = jaxtrain.optim.nesterov(0.1, momentum=0.9)
      >>> x = jnp.array([1.0, 1.0])
      >>> state = tx.init(x)
      >>> for _ in range(3):
      ...     updates, state = tx.update(jnp.array([1.0, 3.0]) * x, state, x)
      ...     x = optax.apply_updates(x, updates)
      ...     print(jax.device_get(x).round(3))
      [0.81 0.43]
      [ 0.575 -0.058]
      [ 0.327 -0.348]
    """
    rate, velocity = optax.scale_by_learning_rate(learning_rate), accumulate(momentum, look_ahead=True)
    return chain(add_weight_decay(weight_decay), rate, velocity)


class VelocityState(NamedTuple):
    """State of `accumulate`.

    Attributes:
      velocity: the velocity, like the parameters.
      step: int32[], the number of updates made; an empty tuple if the momentum is fixed.
    """

    velocity: Any
    step: Any


def accumulate(momentum: Momentum, *, look_ahead: bool = False) -> optax.GradientTransformation:
    """Return a transformation that accumulates updates u in a velocity v.

        v' = momentum_t * v + u

    Its output is v'. With `look_ahead` it is -momentum_t * v + (1 + momentum_t+1) * v', computed as the equal
    u + momentum_t+1 * v'.

    Args:
      momentum: the decay of the velocity, a number or a schedule.
      look_ahead: whether the parameters are the points at which Nesterov's method takes gradients.
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
        velocity = jax.tree.map(lambda u, v: u + cast_like(now, v) * v, updates, state.velocity)
        if not look_ahead:
            return velocity, VelocityState(velocity, step)
        ahead = jax.tree.map(lambda u, v: u + cast_like(after, v) * v, updates, velocity)
        return ahead, VelocityState(velocity, step)

    return optax.GradientTransformation(init, update)
