"""PowerSign and AddSign: steps scaled by whether gradient and momentum agree in sign."""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.config.annotations import Fraction, LearningRate, NonNegativeFloat, PositiveFloat, Steps
from jaxtrain.optim.chain import chain, like
from jaxtrain.optim.moments import running_mean, zeros_like
from jaxtrain.optim.param_rules import WeightDecay, add_weight_decay

InternalDecay = Literal["none", "linear", "cosine"]


def powersign(
    learning_rate: LearningRate,
    *,
    b1: Fraction = 0.9,
    base: PositiveFloat = math.e,
    internal_decay: InternalDecay = "none",
    decay_steps: Steps = 0,
    weight_decay: WeightDecay = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """PowerSign (Bello et al. 2017): x -= learning_rate * base ** (f(t) * sign(g) * sign(m)) * g.

    Args:
      learning_rate: a number or a schedule.
      b1: decay of m, the running mean of the gradient.
      base: what a step grows by where the signs agree, and shrinks by where they do not.
      internal_decay: f, which is 1, or falls to 0 in a line or half a cosine over `decay_steps` steps.
      decay_steps: the length of the internal decay; the paper's is the run's. From there on f is 0.
      weight_decay: added to the gradient as `weight_decay * x`; a number, or rules `(regex, value)` by path.
    """
    _check_decay("powersign", internal_decay, decay_steps)

    def factor(f: jax.Array, agreement: jax.Array) -> jax.Array:
        up = like(base, f) ** f  # one power a leaf; one an element costs more than all the rest
        return jnp.where(agreement > 0, up, jnp.where(agreement < 0, 1 / up, 1.0))

    rule = _by_agreement(b1, internal_decay, decay_steps, factor)
    return chain(add_weight_decay(weight_decay), rule, optax.scale_by_learning_rate(learning_rate))


def addsign(
    learning_rate: LearningRate,
    *,
    b1: Fraction = 0.9,
    alpha: NonNegativeFloat = 1.0,
    internal_decay: InternalDecay = "none",
    decay_steps: Steps = 0,
    weight_decay: WeightDecay = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """AddSign (Bello et al. 2017): x -= learning_rate * (alpha + f(t) * sign(g) * sign(m)) * g.

    Args:
      learning_rate: a number or a schedule.
      b1: decay of m, the running mean of the gradient.
      alpha: with 1 a step doubles where the signs agree, and vanishes where they do not.
      internal_decay: f, which is 1, or falls to 0 in a line or half a cosine over `decay_steps` steps.
      decay_steps: the length of the internal decay; the paper's is the run's. From there on f is 0.
      weight_decay: added to the gradient as `weight_decay * x`; a number, or rules `(regex, value)` by path.
    """
    _check_decay("addsign", internal_decay, decay_steps)
    rule = _by_agreement(b1, internal_decay, decay_steps, lambda f, agreement: like(alpha, f) + f * agreement)
    return chain(add_weight_decay(weight_decay), rule, optax.scale_by_learning_rate(learning_rate))


def _check_decay(rule: str, internal_decay: InternalDecay, steps: Any) -> None:
    known = isinstance(steps, int)  # an array under optax.inject_hyperparams
    if internal_decay != "none" and known and steps < 1:
        raise ValueError(f"{rule}: internal_decay={internal_decay!r} needs its length; give decay_steps")
    if internal_decay == "none" and known and steps > 0:
        raise ValueError(f'{rule}: decay_steps={steps} is of no use; give internal_decay="linear" or "cosine", too')


class AgreementState(NamedTuple):
    """The running mean of the gradient, like the parameters, and int32[] updates made."""

    mean: Any
    step: jax.Array


def _by_agreement(
    b1: float, internal_decay: InternalDecay, steps: int, factor: Callable[[jax.Array, jax.Array], jax.Array]
) -> optax.GradientTransformation:
    """`factor(f(t), sign(g) * sign(m)) * g`, the mean m with this gradient in it and t from 0."""

    def decay(step: jax.Array) -> jax.Array:
        t = step.astype(jnp.result_type(float))
        left = 1 - jnp.minimum(t / jnp.asarray(steps).astype(t.dtype), 1)
        return left if internal_decay == "linear" else (1 - jnp.cos(math.pi * left)) / 2

    def init(params: optax.Params) -> AgreementState:
        return AgreementState(zeros_like(params), jnp.int32(0))

    def update(updates: optax.Updates, state: AgreementState, params: optax.Params | None = None) -> Any:
        del params
        mean = running_mean(b1, state.mean, updates)
        f = jnp.ones(()) if internal_decay == "none" else decay(state.step)
        # the product of the signs, not the sign of the product, which may underflow
        updates = jax.tree.map(lambda g, m: factor(like(f, g), jnp.sign(g) * jnp.sign(m)) * g, updates, mean)
        return updates, AgreementState(mean, state.step + 1)

    return optax.GradientTransformation(init, update)
