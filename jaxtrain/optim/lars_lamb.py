"""Rules for large batches, which give each layer a learning rate by its trust ratio |w| / |update|."""

import jax
import optax

from jaxtrain.config.annotations import Fraction, LearningRate, NonNegativeFloat, PositiveFloat
from jaxtrain.optim.adam import scale_by_adam
from jaxtrain.optim.chain import chain, with_standard_promotion
from jaxtrain.optim.param_rules import WeightDecay, add_weight_decay
from jaxtrain.optim.sgd import accumulate


def lars(
    learning_rate: LearningRate,
    *,
    momentum: Fraction = 0.9,
    trust_coefficient: PositiveFloat = 0.001,
    eps: NonNegativeFloat = 0.0,
    exclude_vectors: bool = True,
    weight_decay: WeightDecay = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """LARS (You et al. 2017, algorithm 1): v = momentum * v - learning_rate * ratio * (g + weight_decay * w), w += v.

    The ratio of a layer is trust_coefficient * |w| / (|g + weight_decay * w| + eps), and 1 where either norm is 0.

    Args:
      learning_rate: a number or a schedule; it is inside the velocity.
      momentum: decay of the velocity.
      trust_coefficient: eta of the paper.
      eps: added to the norm that is divided by.
      exclude_vectors: whether biases and scales (of rank 1 at most) have the ratio 1.
      weight_decay: a number for every parameter, or rules `(regex, value)` by path.
    """
    ratio = _trust_ratio(trust_coefficient, eps, exclude_vectors)
    rate = optax.scale_by_learning_rate(learning_rate)
    return chain(add_weight_decay(weight_decay), ratio, rate, accumulate(momentum))


def lamb(
    learning_rate: LearningRate,
    *,
    b1: Fraction = 0.9,
    b2: Fraction = 0.999,
    eps: PositiveFloat = 1e-6,
    exclude_vectors: bool = True,
    weight_decay: WeightDecay = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """LAMB (You et al. 2020, algorithm 2): w -= learning_rate * |w| / |u| * u, u Adam's step plus weight_decay * w.

    The ratio is 1 where either norm is 0.

    Args:
      learning_rate: a number or a schedule.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added outside the root.
      exclude_vectors: whether biases and scales (of rank 1 at most) have the ratio 1.
      weight_decay: a number for every parameter, or rules `(regex, value)` by path.
    """
    ratio = _trust_ratio(1.0, 0.0, exclude_vectors)
    rate = optax.scale_by_learning_rate(learning_rate)
    return chain(scale_by_adam(b1, b2, eps), add_weight_decay(weight_decay), ratio, rate)


def _trust_ratio(coefficient: float, eps: float, exclude_vectors: bool) -> optax.GradientTransformation:
    ratio = with_standard_promotion(optax.scale_by_trust_ratio(trust_coefficient=coefficient, eps=eps))
    if not exclude_vectors:
        return ratio
    return optax.masked(ratio, lambda params: jax.tree.map(lambda p: p.ndim > 1, params))
