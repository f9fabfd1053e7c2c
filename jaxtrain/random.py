"""Random keys: functions of `(seed, stream name, step)`, and of the example where each example draws for itself.

No key is kept in the state of a run. Within a batch, `example_keys` folds the index of each example into a key, so that
what is drawn for one example depends neither on the others nor on the batch that it is in.
"""

import zlib
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.step_context import current_context

T = TypeVar("T")

SHUFFLE = "shuffle"
"""Order of the examples; its step is the epoch."""
AUGMENT = "augment"
"""Augmentation of a training batch."""
SIGHTING = "sighting"
"""What an example draws once for all epochs, by its pixels; its step is 0."""
MIX = "mix"
"""Mixtures of the examples of a training batch."""
HOST_AUGMENT = "host_augment"
"""Augmentation of training pictures on the host, while they are decoded."""
INIT = "init"
"""Initial parameters; its step is 0."""
STATISTICS = "statistics"
"""What a model draws while batch statistics of averaged parameters are computed; its step is the batch."""
VIEWS = "views"
"""What is drawn for an example at test; its step is the example's place in its split."""
MODEL_STREAMS = ("dropout",)
"""Streams that a model may draw from in training, under the names that Linen's `make_rng` uses."""


def stream(seed: int, name: str, step: jax.typing.ArrayLike) -> jax.Array:
    """The typed key of stream `name` at `step`: `fold_in(fold_in(key(seed), hash(name)), step)`.

    The hash is CRC-32, which, unlike Python's, is the same in every process.
    """
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode())), step)


def host_stream(seed: int, name: str, step: int) -> np.random.RandomState:
    """The same for what is drawn on the host: a generator that starts anew for each `(seed, name, step)`.

    `RandomState` is used because numpy guarantees its stream for ever; that of newer generators may change.
    """
    return np.random.RandomState([seed, zlib.crc32(name.encode()), step])


def example_stream(seed: int, name: str, step: int, example: int) -> np.random.RandomState:
    """The same for one example of a batch.

    The generator is Philox, whose key and counter are these numbers: starting one costs the same wherever it starts.
    """
    bits = np.random.Philox(key=[seed, zlib.crc32(name.encode())], counter=[0, 0, example, step])
    return np.random.RandomState(bits)


def example_indices(count: int) -> jax.Array:
    """Return uint32[count], the indices in the batch of the step of the `count` examples being processed.

    Raises:
      ValueError: the step is processing another number of examples.
    """
    indices = current_context().indices
    if indices is None:
        return jnp.arange(count, dtype=jnp.uint32)
    if indices.shape != (count,):
        raise ValueError(
            f"{count} examples are to draw within a part of {indices.shape[0]}; a layer that joins or splits "
            "examples must draw before that"
        )
    return indices


def example_keys(key: jax.Array, batch: jax.Array) -> jax.Array:
    """Return key[N] for `batch[N, ...]`, functions of `key` and the index of the example, sharded as `batch` is.

    Raises:
      ValueError: the step is processing another number of examples.
    """
    indices = example_indices(batch.shape[0])
    return jax.vmap(jax.random.fold_in, (None, 0))(key, shard_like(indices, batch))


def shard_like(values: jax.Array, batch: jax.Array) -> jax.Array:
    """Shard `values[N]` over an explicit mesh as `batch[N, ...]` is; on any other mesh leave them as they are."""
    axis = jax.typeof(batch).sharding.spec[0] if batch.ndim else None
    return values if axis is None else jax.sharding.reshard(values, jax.P(axis))


def draw_by_example(draw: Callable[[jax.Array], T], key: jax.Array, batch: jax.Array) -> T:
    """Return `draw(key of the example)` for each example of `batch[N, ...]`, stacked along a first axis of N."""
    return jax.vmap(draw)(example_keys(key, batch))
