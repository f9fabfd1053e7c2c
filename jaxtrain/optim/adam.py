"""Adam and its relatives: AdamW, AMSGrad, Nadam.

Hyperparameters may be arrays (`optax.inject_hyperparams`); they take the dtype of each leaf.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.config.annotations import Fraction, LearningRate, NonNegativeFloat, PositiveFloat
from jaxtrain.optim.chain import chain, like, with_standard_promotion
from jaxtrain.optim.moments import over_root, running_mean, squared, zeros_like
from jaxtrain.optim.param_rules import WeightDecay, add_weight_decay


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


class MomentsState(NamedTuple):
    """Running means `first` of gradients and `second` of their squares, both like the parameters."""

    first: Any
    second: Any


def scale_by_moments(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """m / (sqrt(v) + eps), the moments as they are."""

    def update(updates: optax.Updates, state: MomentsState, params: optax.Params | None = None) -> Any:
        del params
        state = _after(state, updates, b1, b2)
        return over_root(state.first, state.second, eps), state

    return optax.GradientTransformation(_none_yet, update)


def scale_by_adam(b1: float, b2: float, eps: float, eps_inside_sqrt: bool = False) -> optax.GradientTransformation:
    """m_hat / (sqrt(v_hat) + eps), or / sqrt(v_hat + eps): optax's transform."""
    outside, inside = (0.0, eps) if eps_inside_sqrt else (eps, 0.0)
    return with_standard_promotion(optax.scale_by_adam(b1=b1, b2=b2, eps=outside, eps_root=inside))


class AmsgradState(NamedTuple):
    """State of `scale_by_amsgrad`.

    Attributes:
      moments: of the gradient.
      largest: the largest second moments so far, like the parameters.
      step: int32[], updates made.
    """

    moments: MomentsState
    largest: Any
    step: jax.Array


def scale_by_amsgrad(b1: float, b2: float, eps: float, eps_inside_sqrt: bool = False) -> optax.GradientTransformation:
    """Adam's quotient with the largest v so far in place of v, corrected as v is; optax takes the largest v_hat."""

    def init(params: optax.Params) -> AmsgradState:
        return AmsgradState(_none_yet(params), zeros_like(params), jnp.int32(0))

    def update(updates: optax.Updates, state: AmsgradState, params: optax.Params | None = None) -> Any:
        del params
        moments = _after(state.moments, updates, b1, b2)
        largest = jax.tree.map(jnp.maximum, state.largest, moments.second)
        t = _as_float(state.step + 1)
        first, second = _divided(moments.first, _correction(b1, t)), _divided(largest, _correction(b2, t))
        updates = over_root(first, second, eps, eps_inside_sqrt)
        return updates, AmsgradState(moments, largest, state.step + 1)

    return optax.GradientTransformation(init, update)


class NadamState(NamedTuple):
    """State of `scale_by_nadam`.

    Attributes:
      moments: of the gradient.
      product: f[], the product of the momenta so far.
      step: int32[], updates made.
    """

    moments: MomentsState
    product: jax.Array
    step: jax.Array


def scale_by_nadam(b1: float, b2: float, eps: float, momentum_decay: float) -> optax.GradientTransformation:
    """((1 - mu_t) / (1 - P_t) * g + mu_t+1 / (1 - P_t+1) * m) / (sqrt(v_hat) + eps), P_t = mu_1 * ... * mu_t."""

    def momentum(t: jax.Array) -> jax.Array:
        psi = jnp.asarray(momentum_decay).astype(t.dtype)
        return like(b1, t) * jnp.where(psi == 0, 1.0, 1 - 0.5 * 0.96 ** (t * psi))

    def init(params: optax.Params) -> NadamState:
        return NadamState(_none_yet(params), jnp.asarray(1.0, jnp.result_type(float)), jnp.int32(0))

    def update(updates: optax.Updates, state: NadamState, params: optax.Params | None = None) -> Any:
        del params
        moments = _after(state.moments, updates, b1, b2)
        t = _as_float(state.step + 1)
        now, ahead = momentum(t), momentum(t + 1)
        product = state.product * now
        of_gradient, of_mean = (1 - now) / (1 - product), ahead / (1 - product * ahead)

        def combined(g: jax.Array, m: jax.Array) -> jax.Array:
            return like(of_gradient, g) * g + like(of_mean, g) * m

        first = jax.tree.map(combined, updates, moments.first)
        second = _divided(moments.second, _correction(b2, t))
        return over_root(first, second, eps), NadamState(moments, product, state.step + 1)

    return optax.GradientTransformation(init, update)


def _none_yet(params: optax.Params) -> MomentsState:
    return MomentsState(zeros_like(params), zeros_like(params))


def _after(state: MomentsState, gradient: optax.Updates, b1: float, b2: float) -> MomentsState:
    return MomentsState(running_mean(b1, state.first, gradient), running_mean(b2, state.second, squared(gradient)))


def _correction(decay: float, t: jax.Array) -> jax.Array:
    """What a running mean from 0 on holds of a constant after t values."""
    return 1 - like(decay, t) ** t


def _divided(tree: Any, by: jax.Array) -> Any:
    return jax.tree.map(lambda x: x / like(by, x), tree)


def _as_float(count: jax.Array) -> jax.Array:
    """A count in the default precision, in which powers of decays are taken before leaves of less get them."""
    return count.astype(jnp.result_type(float))
