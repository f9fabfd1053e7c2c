"""First-order rules, composed from optax transforms."""

from typing import Any

import jax
import optax

from jaxtrain.config.annotations import Fraction, LearningRate, PositiveFloat
from jaxtrain.optim.rules import WeightDecay, add_weight_decay


def sgd(
    learning_rate: LearningRate,
    *,
    momentum: Fraction = 0.0,
    nesterov: bool = False,
    weight_decay: WeightDecay = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Stochastic gradient descent: v = momentum * v + g, x -= learning_rate * v; torch's `SGD` with dampening 0.

    Args:
      learning_rate: a number or a schedule `step -> number`; it multiplies the velocity (outside form).
      momentum: decay of the velocity; 0 keeps none.
      nesterov: steps along g + momentum * v (Sutskever et al. 2013), exact at a constant learning rate.
      weight_decay: added to the gradient as `weight_decay * x` before the momentum; the gradient of the penalty
        `weight_decay / 2 * |x|^2`. A number is for every parameter; rules `(regex, value)` go by path.
    """
    still = isinstance(momentum, int | float) and momentum == 0  # an array under optax.inject_hyperparams
    if nesterov and still:
        raise ValueError("nesterov=True needs a momentum above 0")
    parts = [add_weight_decay(weight_decay)]
    if not still:
        parts.append(optax.trace(momentum, nesterov=nesterov))
    return optax.with_extra_args_support(optax.chain(*parts, optax.scale_by_learning_rate(learning_rate)))


def adam(
    learning_rate: LearningRate, *, b1: Fraction = 0.9, b2: Fraction = 0.999, eps: PositiveFloat = 1e-8
) -> optax.GradientTransformationExtraArgs:
    """Adam (Kingma & Ba 2015, algorithm 1): x -= learning_rate * m_hat / (sqrt(v_hat) + eps).

    Args:
      learning_rate: a number or a schedule.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added outside the root.
    """
    return optax.with_extra_args_support(
        optax.chain(_scale_by_adam(b1, b2, eps), optax.scale_by_learning_rate(learning_rate))
    )


def adamw(
    learning_rate: LearningRate,
    *,
    b1: Fraction = 0.9,
    b2: Fraction = 0.999,
    eps: PositiveFloat = 1e-8,
    weight_decay: WeightDecay = 0.01,
) -> optax.GradientTransformationExtraArgs:
    """Adam with decoupled weight decay: x -= learning_rate * (m_hat / (sqrt(v_hat) + eps) + weight_decay * x).

    This is torch's `AdamW`: the decay is multiplied by the learning rate, its schedule included. The paper's
    own form multiplies it by the schedule alone (Loshchilov & Hutter 2019, algorithm 2).

    Args:
      learning_rate: a number or a schedule.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added outside the root.
      weight_decay: a number for every parameter, or rules `(regex, value)` by path.
    """
    return optax.with_extra_args_support(
        optax.chain(
            _scale_by_adam(b1, b2, eps),
            add_weight_decay(weight_decay),
            optax.scale_by_learning_rate(learning_rate),
        )
    )


def _scale_by_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """optax's transform, usable where dtype promotion is strict: it raises a float to the power of an int count."""
    tx = optax.scale_by_adam(b1=b1, b2=b2, eps=eps)

    def update(updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return tx.update(updates, state, params)

    return optax.GradientTransformation(tx.init, update)
