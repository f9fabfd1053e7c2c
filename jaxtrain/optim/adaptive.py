"""Rules that give each parameter a step of its own: AdaGrad, RMSProp, Adadelta, and Adam with its relatives."""

from typing import Literal

import optax

from jaxtrain.config.annotations import Fraction, LearningRate, NonNegativeFloat, PositiveFloat
from jaxtrain.optim.first_order import accumulate, chain
from jaxtrain.optim.moments import (
    scale_by_adam,
    scale_by_amsgrad,
    scale_by_mean_square,
    scale_by_moments,
    scale_by_nadam,
    scale_by_sum_of_squares,
    scale_by_variance,
)
from jaxtrain.optim.rules import WeightDecay, add_weight_decay, is_zero


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


def adam(
    learning_rate: LearningRate,
    *,
    b1: Fraction = 0.9,
    b2: Fraction = 0.999,
    eps: PositiveFloat = 1e-8,
    eps_inside_sqrt: bool = False,
    amsgrad: bool = False,
    weight_decay: WeightDecay = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Adam (Kingma & Ba 2015, algorithm 1): x -= learning_rate * m_hat / (sqrt(v_hat) + eps).

    Args:
      learning_rate: a number or a schedule.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: keeps the quotient finite.
      eps_inside_sqrt: whether it is sqrt(v_hat + eps) instead.
      amsgrad: whether the largest v so far stands in place of v (Reddi et al. 2018, arXiv:1904.09237), bias correction
        after that as in torch's `Adam(amsgrad)`.
      weight_decay: added to the gradient as `weight_decay * x`, so that it passes through the moments: an L2 penalty,
        torch's `Adam(weight_decay)`. For decay that does not, see `adamw`.
    """
    moments = (scale_by_amsgrad if amsgrad else scale_by_adam)(b1, b2, eps, eps_inside_sqrt)
    return chain(add_weight_decay(weight_decay), moments, optax.scale_by_learning_rate(learning_rate))


def adam_uncorrected(
    learning_rate: LearningRate, *, b1: Fraction = 0.9, b2: Fraction = 0.999, eps: PositiveFloat = 1e-8
) -> optax.GradientTransformationExtraArgs:
    """Adam without bias correction: x -= learning_rate * m / (sqrt(v) + eps).

    Its first step is (1 - b1) / sqrt(1 - b2) times Adam's, 3.16 with the defaults: both moments begin at 0, and the
    second leaves it more slowly. That is what the correction is for (Kingma & Ba 2015, section 3).

    Args:
      learning_rate: a number or a schedule.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added outside the root.
    """
    return chain(scale_by_moments(b1, b2, eps), optax.scale_by_learning_rate(learning_rate))


def adamw(
    learning_rate: LearningRate,
    *,
    b1: Fraction = 0.9,
    b2: Fraction = 0.999,
    eps: PositiveFloat = 1e-8,
    eps_inside_sqrt: bool = False,
    weight_decay: WeightDecay = 0.01,
    decoupling: Literal["learning_rate", "schedule"] = "learning_rate",
    peak: PositiveFloat | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Adam with decoupled weight decay, in either of its published forms.

    "learning_rate": x -= lr_t * (m_hat / (sqrt(v_hat) + eps) + weight_decay * x), which is torch's `AdamW`; another
    learning rate is another decay.
    "schedule": x -= lr_t * m_hat / (sqrt(v_hat) + eps) + eta_t * weight_decay * x: the decay follows the schedule
    alone (Loshchilov & Hutter 2019, algorithm 2, whose alpha is `peak` here and whose eta_t is lr_t / peak).

    Args:
      learning_rate: a number or a schedule.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: keeps the quotient finite.
      eps_inside_sqrt: whether it is sqrt(v_hat + eps) instead.
      weight_decay: a number for every parameter, or rules `(regex, value)` by path.
      decoupling: which of the two forms.
      peak: the learning rate at which eta_t is 1, with "schedule": the highest value of the schedule. It is needed
        where `learning_rate` is a schedule; without it eta_t is always 1.

    Raises:
      ValueError: `peak` is missing, or is given where nothing is divided by it.
    """
    moments = scale_by_adam(b1, b2, eps, eps_inside_sqrt)
    rate, decay = optax.scale_by_learning_rate(learning_rate), add_weight_decay(weight_decay)
    if decoupling == "learning_rate":
        if peak is not None:
            raise ValueError('adamw: peak says what decoupling="schedule" divides the learning rate by; drop peak')
        return chain(moments, decay, rate)
    if peak is not None:
        return chain(moments, optax.scale(peak), decay, optax.scale(1 / peak), rate)
    if callable(learning_rate):
        raise ValueError('adamw: decoupling="schedule" divides the schedule by its highest value; give it as peak')
    return chain(moments, rate, optax.scale(-1.0), decay, optax.scale(-1.0))


def nadam(
    learning_rate: LearningRate,
    *,
    b1: Fraction = 0.9,
    b2: Fraction = 0.999,
    eps: PositiveFloat = 1e-8,
    momentum_decay: NonNegativeFloat = 0.0,
    weight_decay: WeightDecay = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Nadam (Dozat 2016, algorithm 2): Adam whose momentum looks one step ahead.

    x -= learning_rate * ((1 - mu_t) / (1 - P_t) * g + mu_t+1 / (1 - P_t+1) * m) / (sqrt(v_hat) + eps), with
    P_t = mu_1 * ... * mu_t; as in torch, v_hat is Adam's.

    Args:
      learning_rate: a number or a schedule.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added outside the root.
      momentum_decay: psi in mu_t = b1 * (1 - 0.96 ** (t * psi) / 2), t from 1, which warms the momentum up from b1 / 2;
        0.004 in the paper and in torch's `NAdam`. 0 is without warm-up: mu_t = b1 always, as in optax's `nadam`.
      weight_decay: added to the gradient as `weight_decay * x`; a number, or rules `(regex, value)` by path.
    """
    rate = optax.scale_by_learning_rate(learning_rate)
    return chain(add_weight_decay(weight_decay), scale_by_nadam(b1, b2, eps, momentum_decay), rate)
