"""Averages over random draws in evaluation, as in Monte Carlo dropout."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxtrain.nn.normalization import BatchNorm

T = TypeVar("T")


def marginalize(fn: Callable[[jax.Array], T], keys: jax.Array, *, chunk: int | None = None) -> T:
    """Return the mean of `fn(key)` over `keys`.

    With `lambda key: jax.nn.softmax(draw_outputs(key, model, variables, images))` the result is the predictions of the
    averaged model. With a function that returns a value and its square, the results give the variance.

    Args:
      fn: a function from a key to a tree of arrays; integers and booleans are averaged as floats.
      keys: key[K], one key per draw, from `jax.random.split(key, K)`.
      chunk: the number of draws that are computed together, which bounds the memory; None for all of them.

    Returns:
      A tree like that of `fn`, in float32 or wider.

    Raises:
      ValueError: there are no keys, or `chunk` is less than 1.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> keys = jax.random.split(jax.random.key(0), 1000)
      >>> mean = jaxtrain.nn.marginalize(lambda key: jaxtrain.nn.dropout(key, jnp.ones((1, 100)), 0.5), keys)
      >>> mean.shape, f"{mean.mean():.2f}"
      ((1, 100), '1.00')
    """
    count = keys.shape[0]
    if count < 1 or (chunk is not None and chunk < 1):
        raise ValueError(
            f"marginalize needs at least one key and a chunk of at least 1, got {count} keys and chunk={chunk}"
        )
    size = count if chunk is None else min(chunk, count)

    def total(keys: jax.Array) -> Any:
        return jax.tree.map(lambda y: _real(y).sum(axis=0), jax.vmap(fn)(keys))

    chunks = count // size
    totals = jax.tree.map(lambda y: y.sum(axis=0), jax.lax.map(total, keys[: chunks * size].reshape(chunks, size)))
    if count % size:
        totals = jax.tree.map(jnp.add, totals, total(keys[chunks * size :]))
    return jax.tree.map(lambda y: y / count, totals)


def draw_outputs(key: jax.Array, model: nn.Module, variables: Mapping[str, Any], images: jax.Array) -> Any:
    """Return a model's outputs with random draws as in training and batch normalization as in evaluation.

    Monte Carlo dropout averages these outputs (Gal & Ghahramani 2016). Dropout, stochastic depth and similar layers
    draw, while batch normalization uses its running statistics and does not update them.

    Args:
      key: the key for the random stream "dropout".
      model: a Linen module, `(images, *, train)`; its batch normalization is this package's or flax's.
      variables: the model's parameters and running statistics.
      images: f32[N, H, W, C].

    Returns:
      The model's outputs in training: the logits, and auxiliary logits if the model has them.

    Example:
      >>> import flax, jax, jax.numpy as jnp, jaxtrain
      >>> class Net(flax.linen.Module):
      ...     @flax.linen.compact
      ...     def __call__(self, images, *, train):
      ...         return jaxtrain.nn.Dropout(train, rate=0.5)(images)
      >>> jaxtrain.nn.draw_outputs(jax.random.key(0), Net(), {}, jnp.ones((2, 4))).tolist()
      [[2.0, 0.0, 0.0, 0.0], [2.0, 0.0, 2.0, 2.0]]
    """
    with nn.intercept_methods(_use_running_statistics):
        return model.apply(dict(variables), images, train=True, rngs={"dropout": key})


def _use_running_statistics(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
    module: Any = context.module
    if context.method_name != "__call__":
        return call(*args, **kwargs)
    if isinstance(module, BatchNorm) and module.train:
        return module.clone(parent=None, train=False).apply(dict(module.variables), *args, **kwargs)
    if isinstance(module, nn.BatchNorm) and not module.use_running_average:
        others = {name: value for name, value in kwargs.items() if name != "use_running_average"}
        evaluation = module.clone(parent=None, use_running_average=True)
        return evaluation.apply(dict(module.variables), args[0], **others)
    return call(*args, **kwargs)


def _real(y: Any) -> jax.Array:
    floating = jnp.issubdtype(y.dtype, jnp.floating)
    return jnp.asarray(y).astype(np.promote_types(y.dtype, np.float32) if floating else jnp.float32)
