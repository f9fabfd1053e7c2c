"""Sums and running means of gradients and of their squares, and the quotients that adaptive rules take of them.

Hyperparameters may be arrays (`optax.inject_hyperparams`); they take the dtype of each leaf.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.optim.first_order import like
from jaxtrain.optim.promotion import with_standard_promotion


def running_mean(decay: float, means: Any, values: Any) -> Any:
    """decay * mean + (1 - decay) * value, leaf by leaf."""
    return jax.tree.map(lambda m, x: like(decay, x) * m + like(1 - decay, x) * x, means, values)


def zeros_like(tree: Any) -> Any:
    """Zeros of the shapes and dtypes of `tree`, in buffers of their own: a step may donate its state."""
    return jax.tree.map(jnp.zeros_like, tree)


class SquaresState(NamedTuple):
    """Sums or running means of squared gradients, like the parameters."""

    squares: Any


def scale_by_sum_of_squares(eps: float, initial: float) -> optax.GradientTransformation:
    """g / (sqrt(s) + eps), s the sum of `initial` and of all squares so far."""

    def init(params: optax.Params) -> SquaresState:
        return SquaresState(jax.tree.map(lambda p: jnp.full_like(p, initial), params))

    def update(updates: optax.Updates, state: SquaresState, params: optax.Params | None = None) -> Any:
        del params
        squares = jax.tree.map(lambda s, g: s + g * g, state.squares, updates)
        return _over_root(updates, squares, eps), SquaresState(squares)

    return optax.GradientTransformation(init, update)


def scale_by_mean_square(decay: float, eps: float) -> optax.GradientTransformation:
    """g / (sqrt(s) + eps), s the running mean of squares from 0 on."""

    def init(params: optax.Params) -> SquaresState:
        return SquaresState(zeros_like(params))

    def update(updates: optax.Updates, state: SquaresState, params: optax.Params | None = None) -> Any:
        del params
        squares = running_mean(decay, state.squares, _squared(updates))
        return _over_root(updates, squares, eps), SquaresState(squares)

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
        return _over_root(updates, variances, eps), VarianceState(means, variances)

    return optax.GradientTransformation(init, update)


class MomentsState(NamedTuple):
    """Running means `first` of gradients and `second` of their squares, both like the parameters."""

    first: Any
    second: Any


def scale_by_moments(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """m / (sqrt(v) + eps), the moments as they are."""

    def update(updates: optax.Updates, state: MomentsState, params: optax.Params | None = None) -> Any:
        del params
        state = _after(state, updates, b1, b2)
        return _over_root(state.first, state.second, eps), state

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
        updates = _over_root(first, second, eps, eps_inside_sqrt)
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
        return _over_root(first, second, eps), NadamState(moments, product, state.step + 1)

    return optax.GradientTransformation(init, update)


def _none_yet(params: optax.Params) -> MomentsState:
    return MomentsState(zeros_like(params), zeros_like(params))


def _after(state: MomentsState, gradient: optax.Updates, b1: float, b2: float) -> MomentsState:
    return MomentsState(running_mean(b1, state.first, gradient), running_mean(b2, state.second, _squared(gradient)))


def _squared(tree: Any) -> Any:
    return jax.tree.map(jnp.square, tree)


def _correction(decay: float, t: jax.Array) -> jax.Array:
    """What a running mean from 0 on holds of a constant after t values."""
    return 1 - like(decay, t) ** t


def _divided(tree: Any, by: jax.Array) -> Any:
    return jax.tree.map(lambda x: x / like(by, x), tree)


def _over_root(numerator: Any, squares: Any, eps: float, inside: bool = False) -> Any:
    """numerator / (sqrt(squares) + eps), or with eps inside the root."""

    def quotient(n: jax.Array, s: jax.Array) -> jax.Array:
        e = like(eps, s)
        return n / jnp.sqrt(s + e) if inside else n / (jnp.sqrt(s) + e)

    return jax.tree.map(quotient, numerator, squares)


def _as_float(count: jax.Array) -> jax.Array:
    """A count in the default precision, in which powers of decays are taken before leaves of less get them."""
    return count.astype(jnp.result_type(float))
