"""Transformations of gradients before an optimizer: clipping, noise, delay."""

import re
import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.annotations import NonNegativeFloat, NonNegativeInt, PositiveFloat, Seed
from jaxtrain.optim import trees
from jaxtrain.optim.param_rules import compile_regex, path_name


def clip_by_value(value: PositiveFloat) -> optax.GradientTransformationExtraArgs:
    """Build a transformation that clips each element of the gradient to [-value, value].

    Args:
      value: the largest absolute value.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> tx = jaxtrain.optim.clip_by_value(1.0)
      >>> grads = jnp.array([3.0, -0.5, -4.0])
      >>> jax.device_get(tx.update(grads, tx.init(grads))[0])
      array([ 1. , -0.5, -1. ], dtype=float32)
    """

    def clip(updates: optax.Updates) -> optax.Updates:
        return jax.tree.map(lambda g: jnp.clip(g, -value, value), updates)

    return _stateless(clip)


def clip_by_norm(norm: PositiveFloat) -> optax.GradientTransformationExtraArgs:
    """Build a transformation that scales the whole gradient down to the Euclidean norm `norm` if its norm is larger.

    Pascanu et al. 2013, arXiv:1211.5063, algorithm 1. torch's `clip_grad_norm_` adds 1e-6 to the norm that it divides
    by.

    Args:
      norm: the largest norm.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> tx = jaxtrain.optim.clip_by_norm(1.0)
      >>> grads = jnp.array([3.0, -4.0])
      >>> jax.device_get(tx.update(grads, tx.init(grads))[0]).round(3)
      array([ 0.6, -0.8], dtype=float32)
    """

    def clip(updates: optax.Updates) -> optax.Updates:
        length = trees.norm(updates)
        factor = jnp.where(length > norm, norm / jnp.where(length > 0, length, 1), 1)
        return jax.tree.map(lambda g: g * factor.astype(g.dtype), updates)

    return _stateless(clip)


def agc(
    clipping: PositiveFloat = 0.01, *, eps: PositiveFloat = 1e-3, exclude: str | None = None
) -> optax.GradientTransformationExtraArgs:
    """Build adaptive gradient clipping: each unit's gradient is clipped to `clipping` times the norm of its weights.

        g = g * min(1, clipping * max(|w|, eps) / |g|)     for each unit

    Brock et al. 2021, arXiv:2102.06171, equation 3. A unit is one index of a kernel's last axis: an output of a dense
    layer, a channel of a convolution. A vector or scalar is one unit.

    Args:
      clipping: the largest ratio of the gradient's norm to the norm of the weights.
      eps: the least norm of the weights, so that parameters that begin at 0 can move.
      exclude: a regex over paths of parameters that are not clipped; the paper excludes the last layer.

    Example:
      The second column is too long for its weights:

      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> tx = jaxtrain.optim.agc(0.1)
      >>> params, grads = jnp.array([[3.0, 3.0], [4.0, 4.0]]), jnp.array([[0.1, 3.0], [0.1, 4.0]])
      >>> jax.device_get(tx.update(grads, tx.init(params), params)[0]).round(3)
      array([[0.1, 0.3],
             [0.1, 0.4]], dtype=float32)
    """
    pattern = re.compile("(?!)") if exclude is None else compile_regex(exclude, "gradients")

    def unit(x: jax.Array) -> jax.Array:
        wide = x.astype(trees.widest(x))
        axes = tuple(range(x.ndim - 1)) if x.ndim > 1 else None
        return jnp.sqrt(jnp.sum(wide * wide, axis=axes, keepdims=True))

    def clip(path: tuple[Any, ...], g: jax.Array, w: jax.Array) -> jax.Array:
        if pattern.search(path_name(path)):
            return g
        length = unit(g)
        limit = clipping * jnp.maximum(unit(w), eps)
        factor = jnp.where(length > limit, limit / jnp.where(length > 0, length, 1), 1)
        return g * factor.astype(g.dtype)

    def update(
        updates: optax.Updates, state: optax.EmptyState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, optax.EmptyState]:
        del extra
        if params is None:
            raise ValueError("agc needs the parameters: call update(grads, state, params)")
        return jax.tree_util.tree_map_with_path(clip, updates, params), state

    return optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), update)


def gradient_noise(
    eta: PositiveFloat = 0.3, *, gamma: NonNegativeFloat = 0.55, seed: Seed
) -> optax.GradientTransformationExtraArgs:
    """Build a transformation that adds noise of N(0, eta / (1 + t)^gamma) to each element.

    Neelakantan et al. 2015, arXiv:1511.06807, equation 1. The draw at step t for a parameter depends on `(seed, t, its
    path)` and on nothing else; no key is kept.

    Args:
      eta: the variance at step 0.
      gamma: the exponent of the fall of the variance.
      seed: the seed of the draws; a config takes that of the run.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> tx = jaxtrain.optim.gradient_noise(0.01, seed=0)
      >>> grads = jnp.zeros(1000)
      >>> noise, state = tx.update(grads, tx.init(grads))
      >>> round(float(noise.std()), 2)
      0.1
    """

    def update(
        updates: optax.Updates, step: jax.Array, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, jax.Array]:
        del params, extra
        stream = jax.random.fold_in(jax.random.key(seed), zlib.crc32(b"gradient_noise"))
        key = jax.random.fold_in(stream, step)
        scale = jnp.sqrt(eta / (1 + step.astype(jnp.result_type(float))) ** gamma)

        def add_noise(path: tuple[Any, ...], g: jax.Array) -> jax.Array:
            own = jax.random.fold_in(key, zlib.crc32(path_name(path).encode()))
            return g + scale.astype(g.dtype) * jax.random.normal(own, g.shape, g.dtype)

        return jax.tree_util.tree_map_with_path(add_noise, updates), step + 1

    return optax.GradientTransformationExtraArgs(lambda _: jnp.int32(0), update)


class DelayState(NamedTuple):
    """State of `delay`: the last gradients, a leaf [steps, ...] for each parameter, and int32[] updates made."""

    waiting: Any
    step: jax.Array


def delay(steps: NonNegativeInt) -> optax.GradientTransformationExtraArgs:
    """Build a transformation that returns the gradient of `steps` updates ago, and zeros before there is one.

    A worker of Downpour SGD (Dean et al. 2012) or Hogwild (Recht et al. 2011, arXiv:1106.5730) does this to the
    parameters: others have changed them since its gradient was computed. Here the staleness is the same at each step.

    Args:
      steps: the number of updates of staleness; each keeps one more gradient, and 0 changes nothing.

    Example:
      >>> import jax.numpy as jnp, jaxtrain
      >>> tx = jaxtrain.optim.delay(2)
      >>> state = tx.init(jnp.float32(0))
      >>> for grad in (1.0, 2.0, 3.0, 4.0):
      ...     update, state = tx.update(jnp.float32(grad), state)
      ...     print(update)
      0.0
      0.0
      1.0
      2.0
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
        index = state.step % steps
        due = jax.tree.map(lambda w: w[index], state.waiting)
        waiting = jax.tree.map(lambda w, g: w.at[index].set(g), state.waiting, updates)
        return due, DelayState(waiting, state.step + 1)

    return optax.GradientTransformationExtraArgs(init, update)


def _stateless(change: Any) -> optax.GradientTransformationExtraArgs:
    return optax.with_extra_args_support(optax.stateless(lambda updates, _: change(updates)))
