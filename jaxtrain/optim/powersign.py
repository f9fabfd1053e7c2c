"""PowerSign and AddSign: steps scaled by the agreement of the signs of gradient and momentum."""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.annotations import Fraction, LearningRate, NonNegativeFloat, PositiveFloat, Steps
from jaxtrain.optim.chain import cast_like, chain
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
    """Build PowerSign (Bello et al. 2017, arXiv:1709.07417).

        m = b1 * m + (1 - b1) * g
        x = x - learning_rate * base ** (f(t) * sign(g) * sign(m)) * g

    Args:
      learning_rate: a number or a schedule `step -> number`.
      b1: the decay of m, the running mean of the gradient.
      base: the factor of a step if the signs agree; if they disagree, a step is divided by it.
      internal_decay: the form of f: "none" is 1 always; "linear" and "cosine" (half a cosine) fall from 1 to 0.
      decay_steps: the number of steps in which f falls to 0, where it stays; the paper uses the length of the run.
      weight_decay: decay added to the gradient as `weight_decay * x`; a number, or rules `(regex, value)` by path.

    Example:
      Three steps on (x_1^2 + 3 x_2^2) / 2:

      >>> import jax, jax.numpy as jnp, jaxtrain, optax
      >>> tx = jaxtrain.optim.powersign(0.1)
      >>> x = jnp.array([1.0, 1.0])
      >>> state = tx.init(x)
      >>> for _ in range(3):
      ...     updates, state = tx.update(jnp.array([1.0, 3.0]) * x, state, x)
      ...     x = optax.apply_updates(x, updates)
      ...     print(jax.device_get(x).round(3))
      [0.728 0.185]
      [0.53  0.034]
      [0.386 0.006]
    """
    _check_decay("powersign", internal_decay, decay_steps)

    def factor(f: jax.Array, agreement: jax.Array) -> jax.Array:
        up = cast_like(base, f) ** f  # one power per leaf; a power per element would cost more than all the rest
        return jnp.where(agreement > 0, up, jnp.where(agreement < 0, 1 / up, 1.0))

    scale = _scale_by_agreement(b1, internal_decay, decay_steps, factor)
    return chain(add_weight_decay(weight_decay), scale, optax.scale_by_learning_rate(learning_rate))


def addsign(
    learning_rate: LearningRate,
    *,
    b1: Fraction = 0.9,
    alpha: NonNegativeFloat = 1.0,
    internal_decay: InternalDecay = "none",
    decay_steps: Steps = 0,
    weight_decay: WeightDecay = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Build AddSign (Bello et al. 2017, arXiv:1709.07417).

        m = b1 * m + (1 - b1) * g
        x = x - learning_rate * (alpha + f(t) * sign(g) * sign(m)) * g

    Args:
      learning_rate: a number or a schedule `step -> number`.
      b1: the decay of m, the running mean of the gradient.
      alpha: the constant part of the factor; with 1 a step doubles if the signs agree, and is 0 if they disagree.
      internal_decay: the form of f: "none" is 1 always; "linear" and "cosine" (half a cosine) fall from 1 to 0.
      decay_steps: the number of steps in which f falls to 0, where it stays; the paper uses the length of the run.
      weight_decay: decay added to the gradient as `weight_decay * x`; a number, or rules `(regex, value)` by path.

    Example:
      Three steps on (x_1^2 + 3 x_2^2) / 2:

      >>> import jax, jax.numpy as jnp, jaxtrain, optax
      >>> tx = jaxtrain.optim.addsign(0.1)
      >>> x = jnp.array([1.0, 1.0])
      >>> state = tx.init(x)
      >>> for _ in range(3):
      ...     updates, state = tx.update(jnp.array([1.0, 3.0]) * x, state, x)
      ...     x = optax.apply_updates(x, updates)
      ...     print(jax.device_get(x).round(3))
      [0.8 0.4]
      [0.64 0.16]
      [0.512 0.064]
    """
    _check_decay("addsign", internal_decay, decay_steps)
    scale = _scale_by_agreement(
        b1, internal_decay, decay_steps, lambda f, agreement: cast_like(alpha, f) + f * agreement
    )
    return chain(add_weight_decay(weight_decay), scale, optax.scale_by_learning_rate(learning_rate))


def _check_decay(name: str, internal_decay: InternalDecay, steps: Any) -> None:
    known = isinstance(steps, int)  # under optax.inject_hyperparams it is an array
    if internal_decay != "none" and known and steps < 1:
        raise ValueError(f"{name}: internal_decay={internal_decay!r} needs decay_steps of at least 1; set decay_steps")
    if internal_decay == "none" and known and steps > 0:
        raise ValueError(f'{name}: decay_steps={steps} needs internal_decay="linear" or "cosine"; set one')


class AgreementState(NamedTuple):
    """State of both: the running mean of the gradient, like the parameters, and int32[] updates made."""

    mean: Any
    step: jax.Array


def _scale_by_agreement(
    b1: float, internal_decay: InternalDecay, steps: int, factor: Callable[[jax.Array, jax.Array], jax.Array]
) -> optax.GradientTransformation:
    """Return a transformation of g to `factor(f(t), sign(g) * sign(m)) * g`.

    The running mean m includes the current gradient; t counts from 0.
    """

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
        # the product of the signs: the product g * m may underflow
        updates = jax.tree.map(lambda g, m: factor(cast_like(f, g), jnp.sign(g) * jnp.sign(m)) * g, updates, mean)
        return updates, AgreementState(mean, state.step + 1)

    return optax.GradientTransformation(init, update)
