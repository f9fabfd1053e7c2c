"""RMSProp, centered or not."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.annotations import Fraction, LearningRate, PositiveFloat
from jaxtrain.optim.chain import cast_like, chain
from jaxtrain.optim.moments import SquaresState, divide_by_sqrt, running_mean, square_leaves, zeros_like
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
    """Build RMSProp (Tieleman & Hinton 2012).

        s = decay * s + (1 - decay) * g^2
        u = g / (sqrt(s) + eps)
        x = x - learning_rate * u

    With `momentum`, v = momentum * v + u, and the step is along v.

    Args:
      learning_rate: a number or a schedule `step -> number`.
      decay: the decay of the running mean of squares; torch calls it `alpha` and has 0.99.
      eps: a small number, added outside the root.
      momentum: the decay of the velocity v; 0 keeps no velocity.
      centered: whether to divide by the running standard deviation (Graves 2013, arXiv:1308.0850, equations 38 to 40).
      lr_placement: the place of the learning rate: "outside" multiplies the velocity, as in torch; "inside" multiplies
        what enters the velocity, as in optax.
      weight_decay: decay added to the gradient as `weight_decay * x`; a number, or rules `(regex, value)` by path.

    Example:
      Three steps on (x_1^2 + 3 x_2^2) / 2:

      >>> import jax, jax.numpy as jnp, jaxtrain, optax
      >>> tx = jaxtrain.optim.rmsprop(0.1)
      >>> x = jnp.array([1.0, 1.0])
      >>> state = tx.init(x)
      >>> for _ in range(3):
      ...     updates, state = tx.update(jnp.array([1.0, 3.0]) * x, state, x)
      ...     x = optax.apply_updates(x, updates)
      ...     print(jax.device_get(x).round(3))
      [0.684 0.684]
      [0.499 0.499]
      [0.369 0.369]
    """
    parts = [optax.scale_by_learning_rate(learning_rate)]
    if not is_zero(momentum):
        parts.insert(0 if lr_placement == "outside" else 1, accumulate(momentum))
    divide = scale_by_variance if centered else scale_by_mean_square
    return chain(add_weight_decay(weight_decay), divide(decay, eps), *parts)


def scale_by_mean_square(decay: float, eps: float) -> optax.GradientTransformation:
    """Return a transformation of g to g / (sqrt(s) + eps), with s the running mean of squares from 0 on."""

    def init(params: optax.Params) -> SquaresState:
        return SquaresState(zeros_like(params))

    def update(updates: optax.Updates, state: SquaresState, params: optax.Params | None = None) -> Any:
        del params
        squares = running_mean(decay, state.squares, square_leaves(updates))
        return divide_by_sqrt(updates, squares, eps), SquaresState(squares)

    return optax.GradientTransformation(init, update)


class VarianceState(NamedTuple):
    """State of `scale_by_variance`: running means of the gradients and running variances, like the parameters.

    A variance is the running mean of squares minus the square of the running mean.
    """

    means: Any
    variances: Any


def scale_by_variance(decay: float, eps: float) -> optax.GradientTransformation:
    """Return a transformation of g to g / (sqrt(s - m^2) + eps).

    s and m are the running means of squares and of gradients, from 0 on. The state keeps the difference V = s - m^2,
    updated by the equivalent V' = decay * V + (1 - decay) / decay * (g - m')^2. If gradients hardly vary, rounding
    would make a computed s - m^2 negative.
    """

    def init(params: optax.Params) -> VarianceState:
        return VarianceState(zeros_like(params), zeros_like(params))

    def update(updates: optax.Updates, state: VarianceState, params: optax.Params | None = None) -> Any:
        del params
        means = running_mean(decay, state.means, updates)
        share = (1 - decay) / jnp.maximum(decay, 1e-30)  # if decay is 0, the mean is g and V is 0

        # Use the new mean, not the old one: XLA cannot update in place if one expression needs both old arrays.
        def update_variance(v: jax.Array, g: jax.Array, m: jax.Array) -> jax.Array:
            return cast_like(decay, g) * v + cast_like(share, g) * jnp.square(g - m)

        variances = jax.tree.map(update_variance, state.variances, updates, means)
        return divide_by_sqrt(updates, variances, eps), VarianceState(means, variances)

    return optax.GradientTransformation(init, update)
