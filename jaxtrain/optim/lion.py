"""Lion: the sign of an interpolated momentum."""

import optax

from jaxtrain.config.annotations import Fraction, LearningRate
from jaxtrain.optim.chain import chain
from jaxtrain.optim.param_rules import WeightDecay, add_weight_decay


def lion(
    learning_rate: LearningRate, *, b1: Fraction = 0.9, b2: Fraction = 0.99, weight_decay: WeightDecay = 0.0
) -> optax.GradientTransformationExtraArgs:
    """Lion (Chen et al. 2023, algorithm 2): x -= learning_rate * (sign(b1 * m + (1 - b1) * g) + weight_decay * x).

    After that m = b2 * m + (1 - b2) * g. Its steps are larger than Adam's: the paper takes a third to a tenth of Adam's
    learning rate, and as much more decay.

    Args:
      learning_rate: a number or a schedule.
      b1: weight of m in the step.
      b2: decay of m.
      weight_decay: decoupled; a number for every parameter, or rules `(regex, value)` by path.
    """
    rate = optax.scale_by_learning_rate(learning_rate)
    return chain(optax.scale_by_lion(b1=b1, b2=b2), add_weight_decay(weight_decay), rate)
