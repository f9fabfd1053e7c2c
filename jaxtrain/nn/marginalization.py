"""Averaging over draws at test: what is random in training, integrated out by samples."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxtrain.nn.normalization import BatchNorm

T = TypeVar("T")


def marginalize(fn: Callable[[jax.Array], T], keys: jax.Array, *, chunk: int | None = None) -> T:
    """The mean of `fn(key)` over `keys`.

    Of `lambda key: jax.nn.softmax(draw_outputs(key, model, variables, images))` it is the averaged model; of anything
    and its square it is what a variance takes.

    Args:
      fn: from a key to arrays of any kind; whole numbers and booleans are averaged as numbers, too.
      keys: key[K], one a draw: `jax.random.split(key, K)`.
      chunk: draws that are made at a time, to bound the memory; None for all at once.

    Returns:
      As `fn`, in float32 at least.

    Raises:
      ValueError: where there are no keys, or none at a time.
    """
    count = keys.shape[0]
    if count < 1 or (chunk is not None and chunk < 1):
        raise ValueError(f"a mean over {count} keys, {chunk} at a time, is none; give one at least of both")
    size = count if chunk is None else min(chunk, count)

    def total(keys: jax.Array) -> Any:
        return jax.tree.map(lambda y: _real(y).sum(axis=0), jax.vmap(fn)(keys))

    whole = count // size
    totals = jax.tree.map(lambda y: y.sum(axis=0), jax.lax.map(total, keys[: whole * size].reshape(whole, size)))
    if count % size:
        totals = jax.tree.map(jnp.add, totals, total(keys[whole * size :]))
    return jax.tree.map(lambda y: y / count, totals)


def draw_outputs(key: jax.Array, model: nn.Module, variables: Mapping[str, Any], images: jax.Array) -> Any:
    """A model's outputs as in training in all that it draws, and as at test in its batch normalization.

    That is what Monte Carlo dropout (Gal & Ghahramani 2016) averages: dropout, stochastic depth and the like are drawn,
    while batch normalization uses its running statistics, which stay as they are.

    Args:
      key: for the stream "dropout".
      model: a Linen module, `(images, *, train)`, with the batch normalization of this package or flax's.
      variables: its parameters and running statistics.
      images: f32[N, H, W, C].

    Returns:
      What the model returns in training: logits, and auxiliary ones for a model that has them.
    """
    with nn.intercept_methods(_with_running_statistics):
        return model.apply(dict(variables), images, train=True, rngs={"dropout": key})


def _with_running_statistics(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
    module: Any = context.module
    if context.method_name != "__call__":
        return call(*args, **kwargs)
    if isinstance(module, BatchNorm) and module.train:
        return module.clone(parent=None, train=False).apply(dict(module.variables), *args, **kwargs)
    if isinstance(module, nn.BatchNorm) and not module.use_running_average:
        others = {name: value for name, value in kwargs.items() if name != "use_running_average"}
        testing = module.clone(parent=None, use_running_average=True)
        return testing.apply(dict(module.variables), args[0], **others)
    return call(*args, **kwargs)


def _real(y: Any) -> jax.Array:
    floating = jnp.issubdtype(y.dtype, jnp.floating)
    return jnp.asarray(y).astype(np.promote_types(y.dtype, np.float32) if floating else jnp.float32)
