"""AdaGrad and Adadelta."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxtrain.config.annotations import Fraction, LearningRate, NonNegativeFloat, PositiveFloat
from jaxtrain.optim.chain import chain
from jaxtrain.optim.moments import SquaresState, over_root
from jaxtrain.optim.param_rules import WeightDecay, add_weight_decay


def adagrad(
    learning_rate: LearningRate,
    *,
    eps: PositiveFloat = 1e-7,
    initial_accumulator: NonNegativeFloat = 0.0,
    weight_decay: WeightDecay = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """AdaGrad (Duchi et al. 2011): s += g^2, x -= learning_rate * g / (sqrt(s) + eps); torch's `Adagrad`.

    optax's own begins with s = 0.1 and has eps inside the root.

    Args:
      learning_rate: a number or a schedule.
      eps: added outside the root.
      initial_accumulator: s before the first step.
      weight_decay: added to the gradient as `weight_decay * x`; a number, or rules `(regex, value)` by path.
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
    """Adadelta (Zeiler 2012, algorithm 1); the paper has no learning rate, which is 1.

    optax's own with its default ascends: it leaves the sign of the gradient as it is.

    Args:
      learning_rate: a number or a schedule.
      rho: decay of both running means.
      eps: added inside both roots.
      weight_decay: added to the gradient as `weight_decay * x`; a number, or rules `(regex, value)` by path.
    """
    rate = optax.scale_by_learning_rate(learning_rate)
    return chain(add_weight_decay(weight_decay), optax.scale_by_adadelta(rho=rho, eps=eps), rate)


def scale_by_sum_of_squares(eps: float, initial: float) -> optax.GradientTransformation:
    """g / (sqrt(s) + eps), s the sum of `initial` and of all squares so far."""

    def init(params: optax.Params) -> SquaresState:
        return SquaresState(jax.tree.map(lambda p: jnp.full_like(p, initial), params))

    def update(updates: optax.Updates, state: SquaresState, params: optax.Params | None = None) -> Any:
        del params
        squares = jax.tree.map(lambda s, g: s + g * g, state.squares, updates)
        return over_root(updates, squares, eps), SquaresState(squares)

    return optax.GradientTransformation(init, update)
