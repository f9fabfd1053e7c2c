"""AdaGrad and Adadelta."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxtrain.annotations import Fraction, LearningRate, NonNegativeFloat, PositiveFloat
from jaxtrain.optim.chain import chain
from jaxtrain.optim.moments import SquaresState, divide_by_sqrt
from jaxtrain.optim.param_rules import WeightDecay, add_weight_decay


def adagrad(
    learning_rate: LearningRate,
    *,
    eps: PositiveFloat = 1e-7,
    initial_accumulator: NonNegativeFloat = 0.0,
    weight_decay: WeightDecay = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Build AdaGrad (Duchi et al. 2011), the same as torch's `Adagrad`.

        s = s + g^2
        x = x - learning_rate * g / (sqrt(s) + eps)

    optax's `adagrad` starts from s = 0.1 and adds eps inside the root.

    Args:
      learning_rate: a number or a schedule `step -> number`.
      eps: a small number, added outside the root.
      initial_accumulator: the value of s before the first step.
      weight_decay: decay added to the gradient as `weight_decay * x`; a number, or rules `(regex, value)` by path.

    Example:
      Three steps on (x_1^2 + 3 x_2^2) / 2:

      >>> import jax, jax.numpy as jnp, jaxtrain, optax
      >>> tx = jaxtrain.optim.adagrad(0.1)
      >>> x = jnp.array([1.0, 1.0])
      >>> state = tx.init(x)
      >>> for _ in range(3):
      ...     updates, state = tx.update(jnp.array([1.0, 3.0]) * x, state, x)
      ...     x = optax.apply_updates(x, updates)
      ...     print(jax.device_get(x).round(3))
      [0.9 0.9]
      [0.833 0.833]
      [0.78 0.78]
    """
    rate = optax.scale_by_learning_rate(learning_rate)
    return chain(add_weight_decay(weight_decay), scale_by_sum_of_squares(eps, initial_accumulator), rate)


def adadelta(
    learning_rate: LearningRate = 1.0,
    *,
    rho: Fraction = 0.9,
    eps: PositiveFloat = 1e-6,
    weight_decay: WeightDecay = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Build Adadelta (Zeiler 2012, algorithm 1, arXiv:1212.5701).

        s = rho * s + (1 - rho) * g^2
        u = sqrt(d + eps) / sqrt(s + eps) * g
        d = rho * d + (1 - rho) * u^2
        x = x - learning_rate * u

    The paper has no learning rate; that is a learning rate of 1. optax's `adadelta` with its default learning rate
    ascends: it does not negate the gradient.

    Args:
      learning_rate: a number or a schedule `step -> number`.
      rho: the decay of both running means.
      eps: a small number, added inside both roots.
      weight_decay: decay added to the gradient as `weight_decay * x`; a number, or rules `(regex, value)` by path.

    Example:
      Three steps on (x_1^2 + 3 x_2^2) / 2:

      >>> import jax, jax.numpy as jnp, jaxtrain, optax
      >>> tx = jaxtrain.optim.adadelta(10.0)
      >>> x = jnp.array([1.0, 1.0])
      >>> state = tx.init(x)
      >>> for _ in range(3):
      ...     updates, state = tx.update(jnp.array([1.0, 3.0]) * x, state, x)
      ...     x = optax.apply_updates(x, updates)
      ...     print(jax.device_get(x).round(3))
      [0.968 0.968]
      [0.936 0.936]
      [0.905 0.905]
    """
    rate = optax.scale_by_learning_rate(learning_rate)
    return chain(add_weight_decay(weight_decay), optax.scale_by_adadelta(rho=rho, eps=eps), rate)


def scale_by_sum_of_squares(eps: float, initial: float) -> optax.GradientTransformation:
    """Return a transformation of g to g / (sqrt(s) + eps), with s = `initial` + the sum of all g^2 so far."""

    def init(params: optax.Params) -> SquaresState:
        return SquaresState(jax.tree.map(lambda p: jnp.full_like(p, initial), params))

    def update(updates: optax.Updates, state: SquaresState, params: optax.Params | None = None) -> Any:
        del params
        squares = jax.tree.map(lambda s, g: s + g * g, state.squares, updates)
        return divide_by_sqrt(updates, squares, eps), SquaresState(squares)

    return optax.GradientTransformation(init, update)
