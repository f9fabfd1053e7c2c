"""What is done to gradients before an optimizer sees them: clipping, noise, delay."""

import re
import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.annotations import NonNegativeFloat, NonNegativeInt, PositiveFloat, Seed
from jaxtrain.optim import trees
from jaxtrain.optim.param_rules import compiled, path_name


def clip_by_value(value: PositiveFloat) -> optax.GradientTransformationExtraArgs:
    """Each element of the gradient cut off to [-value, value]."""

    def clip(updates: optax.Updates) -> optax.Updates:
        return jax.tree.map(lambda g: jnp.clip(g, -value, value), updates)

    return _stateless(clip)


def clip_by_norm(norm: PositiveFloat) -> optax.GradientTransformationExtraArgs:
    """The gradient scaled to the Euclidean norm `norm` where its own is larger (Pascanu et al. 2013, algorithm 1).

    torch's `clip_grad_norm_` adds 1e-6 to the norm that it divides by.
    """

    def clip(updates: optax.Updates) -> optax.Updates:
        length = trees.norm(updates)
        factor = jnp.where(length > norm, norm / jnp.where(length > 0, length, 1), 1)
        return jax.tree.map(lambda g: g * factor.astype(g.dtype), updates)

    return _stateless(clip)


def agc(
    clipping: PositiveFloat = 0.01, *, eps: PositiveFloat = 1e-3, exclude: str | None = None
) -> optax.GradientTransformationExtraArgs:
    """Adaptive gradient clipping: the gradient of a unit to `clipping` times the norm of its weights.

    Brock et al. 2021, equation 3: g * min(1, clipping * max(|w|, eps) / |g|), for each unit, which is what a kernel has
    along its last axis (an output of a dense layer, a channel of a convolution); a vector or scalar is one unit.

    Args:
      clipping: the largest ratio of norms.
      eps: stands for the norm of weights that are smaller, so that what begins at 0 can move.
      exclude: regex over paths of what is not clipped, for which the paper takes the last layer.
    """
    pattern = re.compile("(?!)") if exclude is None else compiled(exclude, "gradients")

    def unit(x: jax.Array) -> jax.Array:
        wide = x.astype(trees.widest(x))
        axes = tuple(range(x.ndim - 1)) if x.ndim > 1 else None
        return jnp.sqrt(jnp.sum(wide * wide, axis=axes, keepdims=True))

    def clip(path: tuple[Any, ...], g: jax.Array, w: jax.Array) -> jax.Array:
        if pattern.search(path_name(path)):
            return g
        length = unit(g)
        most = clipping * jnp.maximum(unit(w), eps)
        factor = jnp.where(length > most, most / jnp.where(length > 0, length, 1), 1)
        return g * factor.astype(g.dtype)

    def update(
        updates: optax.Updates, state: optax.EmptyState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, optax.EmptyState]:
        del extra
        if params is None:
            raise ValueError("adaptive clipping needs the parameters: call update(grads, state, params)")
        return jax.tree_util.tree_map_with_path(clip, updates, params), state

    return optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), update)


def gradient_noise(
    eta: PositiveFloat = 0.3, *, gamma: NonNegativeFloat = 0.55, seed: Seed
) -> optax.GradientTransformationExtraArgs:
    """Adds noise of N(0, eta / (1 + t) ** gamma) to each element (Neelakantan et al. 2015, equation 1).

    The draw at step t for a parameter depends on `(seed, t, its path)` and on nothing else; no key is kept.

    Args:
      eta: variance at step 0.
      gamma: how fast it falls.
      seed: of the draws; a config takes that of the run.
    """

    def update(
        updates: optax.Updates, step: jax.Array, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, jax.Array]:
        del params, extra
        stream = jax.random.fold_in(jax.random.key(seed), zlib.crc32(b"gradient_noise"))
        key = jax.random.fold_in(stream, step)
        scale = jnp.sqrt(eta / (1 + step.astype(jnp.result_type(float))) ** gamma)

        def noisy(path: tuple[Any, ...], g: jax.Array) -> jax.Array:
            own = jax.random.fold_in(key, zlib.crc32(path_name(path).encode()))
            return g + scale.astype(g.dtype) * jax.random.normal(own, g.shape, g.dtype)

        return jax.tree_util.tree_map_with_path(noisy, updates), step + 1

    return optax.GradientTransformationExtraArgs(lambda _: jnp.int32(0), update)


class DelayState(NamedTuple):
    """The last gradients, a leaf [steps, ...] for each of the parameters', and int32[] updates made."""

    waiting: Any
    step: jax.Array


def delay(steps: NonNegativeInt) -> optax.GradientTransformationExtraArgs:
    """Hands on the gradient of `steps` updates ago, and zeros before there is one.

    It is what a worker of Downpour SGD (Dean et al. 2012) or Hogwild (Recht et al. 2011) does to the parameters: its
    gradient was taken at parameters that others have moved on from. Here the staleness is the same at each step.

    Args:
      steps: of staleness, each of which keeps one more gradient; 0 changes nothing.
    """
    if steps == 0:
        return optax.with_extra_args_support(optax.identity())

    def init(params: optax.Params) -> DelayState:
        waiting = jax.tree.map(lambda p: jnp.zeros((steps, *jnp.shape(p)), jnp.result_type(p)), params)
        return DelayState(waiting, jnp.int32(0))

    def update(
        updates: optax.Updates, state: DelayState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, DelayState]:
        del params, extra
        place = state.step % steps
        due = jax.tree.map(lambda w: w[place], state.waiting)
        waiting = jax.tree.map(lambda w, g: w.at[place].set(g), state.waiting, updates)
        return due, DelayState(waiting, state.step + 1)

    return optax.GradientTransformationExtraArgs(init, update)


def _stateless(change: Any) -> optax.GradientTransformationExtraArgs:
    return optax.with_extra_args_support(optax.stateless(lambda updates, _: change(updates)))
