"""LARS and LAMB, optimizers for large batches: the trust ratio |w| / |update| scales each layer's learning rate."""

import jax
import optax

from jaxtrain.annotations import Fraction, LearningRate, NonNegativeFloat, PositiveFloat
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
    """Build LARS (You et al. 2017, algorithm 1, arXiv:1708.03888): momentum with a trust ratio for each layer.

        u = g + weight_decay * w
        ratio = trust_coefficient * |w| / (|u| + eps)     1 if |w| or |u| is 0
        v = momentum * v - learning_rate * ratio * u
        w = w + v

    Args:
      learning_rate: a number or a schedule `step -> number`; it is inside the velocity.
      momentum: the decay of the velocity.
      trust_coefficient: eta of the paper.
      eps: a small number, added to the norm |u|.
      exclude_vectors: whether the ratio is 1 for biases and scales (parameters of rank 0 and 1).
      weight_decay: weight decay; a number for every parameter, or rules `(regex, value)` by path.

    Example:
      Three steps on (x_1^2 + 3 x_2^2) / 2:

      >>> import jax, jax.numpy as jnp, jaxtrain, optax
      >>> tx = jaxtrain.optim.lars(100.0)
      >>> x = jnp.array([[1.0, 1.0]])
      >>> state = tx.init(x)
      >>> for _ in range(3):
      ...     updates, state = tx.update(jnp.array([[1.0, 3.0]]) * x, state, x)
      ...     x = optax.apply_updates(x, updates)
      ...     print(jax.device_get(x).round(3))
      [[0.955 0.866]]
      [[0.871 0.624]]
      [[0.749 0.309]]
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
    """Build LAMB (You et al. 2020, algorithm 2, arXiv:1904.00962): AdamW with a trust ratio for each layer.

    With m_hat and v_hat as in `adam`:

        u = m_hat / (sqrt(v_hat) + eps) + weight_decay * w
        w = w - learning_rate * |w| / |u| * u             |w| / |u| is 1 if either norm is 0

    Args:
      learning_rate: a number or a schedule `step -> number`.
      b1: the decay of the first moment.
      b2: the decay of the second moment.
      eps: a small number, added outside the root.
      exclude_vectors: whether the ratio is 1 for biases and scales (parameters of rank 0 and 1).
      weight_decay: weight decay; a number for every parameter, or rules `(regex, value)` by path.

    Example:
      Three steps on (x_1^2 + 3 x_2^2) / 2:

      >>> import jax, jax.numpy as jnp, jaxtrain, optax
      >>> tx = jaxtrain.optim.lamb(0.1)
      >>> x = jnp.array([[1.0, 1.0]])
      >>> state = tx.init(x)
      >>> for _ in range(3):
      ...     updates, state = tx.update(jnp.array([[1.0, 3.0]]) * x, state, x)
      ...     x = optax.apply_updates(x, updates)
      ...     print(jax.device_get(x).round(3))
      [[0.9 0.9]]
      [[0.81 0.81]]
      [[0.729 0.729]]
    """
    ratio = _trust_ratio(1.0, 0.0, exclude_vectors)
    rate = optax.scale_by_learning_rate(learning_rate)
    return chain(scale_by_adam(b1, b2, eps), add_weight_decay(weight_decay), ratio, rate)


def _trust_ratio(coefficient: float, eps: float, exclude_vectors: bool) -> optax.GradientTransformation:
    ratio = with_standard_promotion(optax.scale_by_trust_ratio(trust_coefficient=coefficient, eps=eps))
    if not exclude_vectors:
        return ratio
    return optax.masked(ratio, lambda params: jax.tree.map(lambda p: p.ndim > 1, params))
