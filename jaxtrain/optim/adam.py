"""Adam and its variants: AdamW, AMSGrad, Nadam, and Adam without bias correction.

Hyperparameters may be arrays (`optax.inject_hyperparams`); they are cast to the dtype of each leaf.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.annotations import Fraction, LearningRate, NonNegativeFloat, PositiveFloat
from jaxtrain.optim.chain import cast_like, chain, with_standard_promotion
from jaxtrain.optim.moments import divide_by_sqrt, running_mean, square_leaves, zeros_like
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
    """Build Adam (Kingma & Ba 2015, algorithm 1, arXiv:1412.6980).

    Update number t = 1, 2, ... with the gradient g:

        m = b1 * m + (1 - b1) * g,      m_hat = m / (1 - b1^t)
        v = b2 * v + (1 - b2) * g^2,    v_hat = v / (1 - b2^t)
        x = x - learning_rate * m_hat / (sqrt(v_hat) + eps)

    Args:
      learning_rate: a number or a schedule `step -> number`.
      b1: the decay of the first moment m.
      b2: the decay of the second moment v.
      eps: a small number that keeps the quotient finite.
      eps_inside_sqrt: whether to divide by sqrt(v_hat + eps) instead.
      amsgrad: whether to replace v by the largest v so far (Reddi et al. 2018, arXiv:1904.09237). The bias correction
        comes after the maximum, as in torch's `Adam(amsgrad)`.
      weight_decay: weight decay, added to the gradient as `weight_decay * x`. It passes through the moments: an L2
        penalty, torch's `Adam(weight_decay)`. For decoupled decay see `adamw`.

    Example:
      Three steps on (x_1^2 + 3 x_2^2) / 2:

      >>> import jax, jax.numpy as jnp, jaxtrain, optax
      >>> tx = jaxtrain.optim.adam(0.1)
      >>> x = jnp.array([1.0, 1.0])
      >>> state = tx.init(x)
      >>> for _ in range(3):
      ...     updates, state = tx.update(jnp.array([1.0, 3.0]) * x, state, x)
      ...     x = optax.apply_updates(x, updates)
      ...     print(jax.device_get(x).round(3))
      [0.9 0.9]
      [0.8 0.8]
      [0.702 0.702]
    """
    moments = (scale_by_amsgrad if amsgrad else scale_by_adam)(b1, b2, eps, eps_inside_sqrt)
    return chain(add_weight_decay(weight_decay), moments, optax.scale_by_learning_rate(learning_rate))


def adam_uncorrected(
    learning_rate: LearningRate, *, b1: Fraction = 0.9, b2: Fraction = 0.999, eps: PositiveFloat = 1e-8
) -> optax.GradientTransformationExtraArgs:
    """Build Adam without bias correction, to show what the correction is for (Kingma & Ba 2015, section 3).

        x = x - learning_rate * m / (sqrt(v) + eps)

    Both moments begin at 0, and v leaves 0 more slowly than m. So the first step is (1 - b1) / sqrt(1 - b2) times
    Adam's: 3.16 times with the defaults.

    Args:
      learning_rate: a number or a schedule `step -> number`.
      b1: the decay of the first moment m.
      b2: the decay of the second moment v.
      eps: a small number, added outside the root.

    Example:
      Three steps on (x_1^2 + 3 x_2^2) / 2:

      >>> import jax, jax.numpy as jnp, jaxtrain, optax
      >>> tx = jaxtrain.optim.adam_uncorrected(0.1)
      >>> x = jnp.array([1.0, 1.0])
      >>> state = tx.init(x)
      >>> for _ in range(3):
      ...     updates, state = tx.update(jnp.array([1.0, 3.0]) * x, state, x)
      ...     x = optax.apply_updates(x, updates)
      ...     print(jax.device_get(x).round(3))
      [0.684 0.684]
      [0.27 0.27]
      [-0.162 -0.162]
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
    """Build Adam with decoupled weight decay, in either of its published forms.

    With m_hat and v_hat as in `adam`:

        "learning_rate":   x = x - lr_t * (m_hat / (sqrt(v_hat) + eps) + weight_decay * x)
        "schedule":        x = x - (lr_t * m_hat / (sqrt(v_hat) + eps) + eta_t * weight_decay * x)

    "learning_rate" is torch's `AdamW`: another learning rate is another decay. "schedule" is algorithm 2 of Loshchilov
    & Hutter 2019 (arXiv:1711.05101): the decay follows the schedule alone. Their alpha is `peak` here, and their eta_t
    is lr_t / peak.

    Args:
      learning_rate: a number or a schedule `step -> number`.
      b1: the decay of the first moment.
      b2: the decay of the second moment.
      eps: a small number that keeps the quotient finite.
      eps_inside_sqrt: whether to divide by sqrt(v_hat + eps) instead.
      weight_decay: weight decay; a number for every parameter, or rules `(regex, value)` by path.
      decoupling: the form, "learning_rate" or "schedule".
      peak: the learning rate at which eta_t is 1, for "schedule": the highest value of the schedule. Required if
        `learning_rate` is a schedule; without it eta_t is always 1.

    Raises:
      ValueError: if `peak` is missing, or given with "learning_rate", which does not use it.

    Example:
      Three steps on (x_1^2 + 3 x_2^2) / 2:

      >>> import jax, jax.numpy as jnp, jaxtrain, optax
      >>> tx = jaxtrain.optim.adamw(0.1, weight_decay=0.5)
      >>> x = jnp.array([1.0, 1.0])
      >>> state = tx.init(x)
      >>> for _ in range(3):
      ...     updates, state = tx.update(jnp.array([1.0, 3.0]) * x, state, x)
      ...     x = optax.apply_updates(x, updates)
      ...     print(jax.device_get(x).round(3))
      [0.85 0.85]
      [0.708 0.708]
      [0.575 0.575]
    """
    moments = scale_by_adam(b1, b2, eps, eps_inside_sqrt)
    rate, decay = optax.scale_by_learning_rate(learning_rate), add_weight_decay(weight_decay)
    if decoupling == "learning_rate":
        if peak is not None:
            raise ValueError('adamw: only decoupling="schedule" uses peak; remove peak or set decoupling="schedule"')
        return chain(moments, decay, rate)
    if peak is not None:
        return chain(moments, optax.scale(peak), decay, optax.scale(1 / peak), rate)
    if callable(learning_rate):
        raise ValueError(
            'adamw: decoupling="schedule" with a learning-rate schedule requires peak=..., the highest learning rate '
            "of the schedule"
        )
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
    """Build Nadam (Dozat 2016, algorithm 2): Adam with Nesterov's momentum.

    With m of `adam`, v_hat of `adam` (as in torch) and P_t = mu_1 * ... * mu_t:

        u = (1 - mu_t) / (1 - P_t) * g + mu_t+1 / (1 - P_t+1) * m
        x = x - learning_rate * u / (sqrt(v_hat) + eps)

    Args:
      learning_rate: a number or a schedule `step -> number`.
      b1: the decay of the first moment.
      b2: the decay of the second moment.
      eps: a small number, added outside the root.
      momentum_decay: psi in mu_t = b1 * (1 - 0.96 ** (t * psi) / 2), t from 1, a warm-up of the momentum from b1 / 2.
        The paper and torch's `NAdam` use 0.004. 0 means no warm-up: mu_t = b1 always, as in optax's `nadam`.
      weight_decay: decay added to the gradient as `weight_decay * x`; a number, or rules `(regex, value)` by path.

    Example:
      Three steps on (x_1^2 + 3 x_2^2) / 2:

      >>> import jax, jax.numpy as jnp, jaxtrain, optax
      >>> tx = jaxtrain.optim.nadam(0.1)
      >>> x = jnp.array([1.0, 1.0])
      >>> state = tx.init(x)
      >>> for _ in range(3):
      ...     updates, state = tx.update(jnp.array([1.0, 3.0]) * x, state, x)
      ...     x = optax.apply_updates(x, updates)
      ...     print(jax.device_get(x).round(3))
      [0.853 0.853]
      [0.742 0.742]
      [0.641 0.641]
    """
    rate = optax.scale_by_learning_rate(learning_rate)
    return chain(add_weight_decay(weight_decay), scale_by_nadam(b1, b2, eps, momentum_decay), rate)


class MomentsState(NamedTuple):
    """Running means: `first` of the gradients and `second` of their squares, both like the parameters."""

    first: Any
    second: Any


def scale_by_moments(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Return a transformation of g to m / (sqrt(v) + eps), without bias correction."""

    def update(updates: optax.Updates, state: MomentsState, params: optax.Params | None = None) -> Any:
        del params
        state = _update_moments(state, updates, b1, b2)
        return divide_by_sqrt(state.first, state.second, eps), state

    return optax.GradientTransformation(_init_moments, update)


def scale_by_adam(b1: float, b2: float, eps: float, eps_inside_sqrt: bool = False) -> optax.GradientTransformation:
    """Return optax's transformation of g to m_hat / (sqrt(v_hat) + eps), or to m_hat / sqrt(v_hat + eps)."""
    outside, inside = (0.0, eps) if eps_inside_sqrt else (eps, 0.0)
    return with_standard_promotion(optax.scale_by_adam(b1=b1, b2=b2, eps=outside, eps_root=inside))


class AmsgradState(NamedTuple):
    """State of `scale_by_amsgrad`.

    Attributes:
      moments: the running means of the gradients and of their squares.
      largest: the largest second moments so far, like the parameters.
      step: int32[], the number of updates made.
    """

    moments: MomentsState
    largest: Any
    step: jax.Array


def scale_by_amsgrad(b1: float, b2: float, eps: float, eps_inside_sqrt: bool = False) -> optax.GradientTransformation:
    """Return Adam's transformation with the largest v so far in place of v, bias-corrected as v is.

    optax takes the largest v_hat instead.
    """

    def init(params: optax.Params) -> AmsgradState:
        return AmsgradState(_init_moments(params), zeros_like(params), jnp.int32(0))

    def update(updates: optax.Updates, state: AmsgradState, params: optax.Params | None = None) -> Any:
        del params
        moments = _update_moments(state.moments, updates, b1, b2)
        largest = jax.tree.map(jnp.maximum, state.largest, moments.second)
        t = _as_float(state.step + 1)
        first, second = _divide(moments.first, _bias_correction(b1, t)), _divide(largest, _bias_correction(b2, t))
        updates = divide_by_sqrt(first, second, eps, eps_inside_sqrt)
        return updates, AmsgradState(moments, largest, state.step + 1)

    return optax.GradientTransformation(init, update)


class NadamState(NamedTuple):
    """State of `scale_by_nadam`.

    Attributes:
      moments: the running means of the gradients and of their squares.
      product: f[], the product of the momenta so far.
      step: int32[], the number of updates made.
    """

    moments: MomentsState
    product: jax.Array
    step: jax.Array


def scale_by_nadam(b1: float, b2: float, eps: float, momentum_decay: float) -> optax.GradientTransformation:
    """Return the transformation of `nadam`, without the learning rate.

    ((1 - mu_t) / (1 - P_t) * g + mu_t+1 / (1 - P_t+1) * m) / (sqrt(v_hat) + eps), with P_t = mu_1 * ... * mu_t.
    """

    def momentum(t: jax.Array) -> jax.Array:
        psi = jnp.asarray(momentum_decay).astype(t.dtype)
        return cast_like(b1, t) * jnp.where(psi == 0, 1.0, 1 - 0.5 * 0.96 ** (t * psi))

    def init(params: optax.Params) -> NadamState:
        return NadamState(_init_moments(params), jnp.asarray(1.0, jnp.result_type(float)), jnp.int32(0))

    def update(updates: optax.Updates, state: NadamState, params: optax.Params | None = None) -> Any:
        del params
        moments = _update_moments(state.moments, updates, b1, b2)
        t = _as_float(state.step + 1)
        now, ahead = momentum(t), momentum(t + 1)
        product = state.product * now
        gradient_weight, mean_weight = (1 - now) / (1 - product), ahead / (1 - product * ahead)

        def combine(g: jax.Array, m: jax.Array) -> jax.Array:
            return cast_like(gradient_weight, g) * g + cast_like(mean_weight, g) * m

        first = jax.tree.map(combine, updates, moments.first)
        second = _divide(moments.second, _bias_correction(b2, t))
        return divide_by_sqrt(first, second, eps), NadamState(moments, product, state.step + 1)

    return optax.GradientTransformation(init, update)


def _init_moments(params: optax.Params) -> MomentsState:
    return MomentsState(zeros_like(params), zeros_like(params))


def _update_moments(state: MomentsState, gradient: optax.Updates, b1: float, b2: float) -> MomentsState:
    return MomentsState(
        running_mean(b1, state.first, gradient), running_mean(b2, state.second, square_leaves(gradient))
    )


def _bias_correction(decay: float, t: jax.Array) -> jax.Array:
    """Return 1 - decay^t: the total weight in a running mean that began at 0 and has seen t values."""
    return 1 - cast_like(decay, t) ** t


def _divide(tree: Any, by: jax.Array) -> Any:
    return jax.tree.map(lambda x: x / cast_like(by, x), tree)


def _as_float(count: jax.Array) -> jax.Array:
    """Convert a count to the default float dtype.

    Powers of decays are computed in it, before they are cast to the dtypes of leaves with less precision.
    """
    return count.astype(jnp.result_type(float))
