"""RMSProp, centered or not."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.config.annotations import Fraction, LearningRate, PositiveFloat
from jaxtrain.optim.chain import chain, like
from jaxtrain.optim.moments import SquaresState, over_root, running_mean, squared, zeros_like
from jaxtrain.optim.param_rules import WeightDecay, add_weight_decay, is_zero
from jaxtrain.optim.sgd import accumulate


def rmsprop(
    learning_rate: LearningRate,
    *,
    decay: Fraction = 0.9,
    eps: PositiveFloat = 1e-7,
    momentum: Fraction = 0.0,
    centered: bool = False,
    lr_placement: Literal["inside", "outside"] = "outside",
    weight_decay: WeightDecay = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp (Tieleman & Hinton 2012): s = decay * s + (1 - decay) * g^2, x -= learning_rate * g / (sqrt(s) + eps).

    Args:
      learning_rate: a number or a schedule.
      decay: of the running mean of squares; torch's `alpha`, there 0.99.
      eps: added outside the root.
      momentum: decay of a velocity, v = momentum * v + g / (sqrt(s) + eps); 0 keeps none.
      centered: divide by the running standard deviation (Graves 2013, arXiv:1308.0850, equations 38 to 40).
      lr_placement: whether the learning rate multiplies the velocity, as in torch, or what enters it, as in optax.
      weight_decay: added to the gradient as `weight_decay * x`; a number, or rules `(regex, value)` by path.
    """
    parts = [optax.scale_by_learning_rate(learning_rate)]
    if not is_zero(momentum):
        parts.insert(0 if lr_placement == "outside" else 1, accumulate(momentum))
    divide = scale_by_variance if centered else scale_by_mean_square
    return chain(add_weight_decay(weight_decay), divide(decay, eps), *parts)


def scale_by_mean_square(decay: float, eps: float) -> optax.GradientTransformation:
    """g / (sqrt(s) + eps), s the running mean of squares from 0 on."""

    def init(params: optax.Params) -> SquaresState:
        return SquaresState(zeros_like(params))

    def update(updates: optax.Updates, state: SquaresState, params: optax.Params | None = None) -> Any:
        del params
        squares = running_mean(decay, state.squares, squared(updates))
        return over_root(updates, squares, eps), SquaresState(squares)

    return optax.GradientTransformation(init, update)


class VarianceState(NamedTuple):
    """Running means of gradients, and what the running means of their squares exceed the squares of these by."""

    means: Any
    variances: Any


def scale_by_variance(decay: float, eps: float) -> optax.GradientTransformation:
    """g / (sqrt(s - m^2) + eps), s and m the running means of squares and of gradients from 0 on.

    The difference V is kept itself, as V' = decay * V + (1 - decay) / decay * (g - m')^2, which is the same: where
    gradients hardly vary, rounding would take s - m^2 below 0 and the root with it.
    """

    def init(params: optax.Params) -> VarianceState:
        return VarianceState(zeros_like(params), zeros_like(params))

    def update(updates: optax.Updates, state: VarianceState, params: optax.Params | None = None) -> Any:
        del params
        means = running_mean(decay, state.means, updates)
        share = (1 - decay) / jnp.maximum(decay, 1e-30)  # with a decay of 0 the mean is g, and V is 0

        # with the new mean, not the old one: whatever needs both old arrays keeps XLA from updating them in place
        def after(v: jax.Array, g: jax.Array, m: jax.Array) -> jax.Array:
            return like(decay, g) * v + like(share, g) * jnp.square(g - m)

        variances = jax.tree.map(after, state.variances, updates, means)
        return over_root(updates, variances, eps), VarianceState(means, variances)

    return optax.GradientTransformation(init, update)
