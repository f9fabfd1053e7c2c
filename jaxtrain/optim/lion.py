"""Lion: steps along the sign of an interpolated momentum."""

import optax

from jaxtrain.annotations import Fraction, LearningRate
from jaxtrain.optim.chain import chain
from jaxtrain.optim.param_rules import WeightDecay, add_weight_decay


def lion(
    learning_rate: LearningRate, *, b1: Fraction = 0.9, b2: Fraction = 0.99, weight_decay: WeightDecay = 0.0
) -> optax.GradientTransformationExtraArgs:
    """Build Lion (Chen et al. 2023, algorithm 2, arXiv:2302.06675).

        x = x - learning_rate * (sign(b1 * m + (1 - b1) * g) + weight_decay * x)
        m = b2 * m + (1 - b2) * g

    Its steps are larger than Adam's. The paper uses a third to a tenth of Adam's learning rate, and three to ten times
    the weight decay.

    Args:
      learning_rate: a number or a schedule `step -> number`.
      b1: the weight of m in the step.
      b2: the decay of m.
      weight_decay: decoupled weight decay; a number for every parameter, or rules `(regex, value)` by path.

    Example:
      Three steps on (x_1^2 + 3 x_2^2) / 2:

      >>> import jax, jax.numpy as jnp, jaxtrain, optax
      >>> tx = jaxtrain.optim.lion(0.1)
      >>> x = jnp.array([1.0, 1.0])
      >>> state = tx.init(x)
      >>> for _ in range(3):
      ...     updates, state = tx.update(jnp.array([1.0, 3.0]) * x, state, x)
      ...     x = optax.apply_updates(x, updates)
      ...     print(jax.device_get(x).round(3))
      [0.9 0.9]
      [0.8 0.8]
      [0.7 0.7]
    """
    rate = optax.scale_by_learning_rate(learning_rate)
    return chain(optax.scale_by_lion(b1=b1, b2=b2), add_weight_decay(weight_decay), rate)
