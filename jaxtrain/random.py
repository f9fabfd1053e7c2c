"""Random keys as functions of `(seed, stream name, step)`, and of the example index for draws per example.

The state of a run holds no keys. `example_keys` folds each example's index in the batch into a key. The draw for one
example therefore depends neither on the other examples nor on how the batch is split over devices or micro-batches.
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
"""The order of the examples; the step is the epoch."""
AUGMENT = "augment"
"""The augmentation of a training batch."""
EXAMPLE_EPOCHS = "sighting"
"""The key that an example keeps over all epochs, computed from its pixels; the step is 0."""
MIX = "mix"
"""The mixing of examples of a training batch (mixup and the like)."""
DECODE_TRANSFORM = "host_augment"
"""The augmentation of training images on the host while they are decoded."""
INIT = "init"
"""The initial parameters; the step is 0."""
STATISTICS = "statistics"
"""A model's draws (dropout) while BatchNorm statistics of averaged parameters are computed; the step is the batch."""
TTA = "views"
"""The draws of test-time augmentation; the step is the example's index in its split."""
MODEL_STREAMS = ("dropout",)
"""Streams that a model may draw from in training, by the names that Linen's `make_rng` uses."""


def stream_key(seed: int, name: str, step: jax.typing.ArrayLike) -> jax.Array:
    """Return the typed key of stream `name` at `step`: `fold_in(fold_in(key(seed), hash(name)), step)`.

    The hash is CRC-32. Unlike Python's `hash`, it is the same in every process.
    """
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode())), step)


def host_generator(seed: int, name: str, step: int) -> np.random.RandomState:
    """Return a numpy generator for draws on the host, seeded by `(seed, name, step)`.

    It is a `RandomState` because numpy never changes that generator's stream; the streams of newer ones may change.
    """
    return np.random.RandomState([seed, zlib.crc32(name.encode()), step])


def example_generator(seed: int, name: str, step: int, example: int) -> np.random.RandomState:
    """Return a numpy generator for one example of a batch, seeded by `(seed, name, step, example)`.

    The generator is Philox with these numbers as its key and counter, so it can start at any counter at constant cost.
    """
    bits = np.random.Philox(key=[seed, zlib.crc32(name.encode())], counter=[0, 0, example, step])
    return np.random.RandomState(bits)


def example_indices(count: int) -> jax.Array:
    """Return the indices uint32[count] of the examples being processed, in the batch of the step.

    Raises:
      ValueError: `count` is not the number of examples that the step is processing.
    """
    indices = current_context().indices
    if indices is None:
        return jnp.arange(count, dtype=jnp.uint32)
    if indices.shape != (count,):
        raise ValueError(
            f"a layer draws keys for {count} examples, but the step is processing {indices.shape[0]}; a layer that "
            "merges or splits examples must draw its keys before it does so"
        )
    return indices


def example_keys(key: jax.Array, batch: jax.Array) -> jax.Array:
    """Return one key for each example of `batch[N, ...]`, sharded like `batch`.

    Each key is a function of `key` and of the example's index in the batch of the step.

    Raises:
      ValueError: N is not the number of examples that the step is processing.
    """
    indices = example_indices(batch.shape[0])
    return jax.vmap(jax.random.fold_in, (None, 0))(key, shard_like(indices, batch))


def shard_like(values: jax.Array, batch: jax.Array) -> jax.Array:
    """Shard `values[N]` like the first axis of `batch[N, ...]` on an explicit mesh; on others return them as is."""
    axis = jax.typeof(batch).sharding.spec[0] if batch.ndim else None
    return values if axis is None else jax.sharding.reshard(values, jax.P(axis))


def draw_per_example(draw: Callable[[jax.Array], T], key: jax.Array, batch: jax.Array) -> T:
    """Return `draw(key)` for the key of each example of `batch[N, ...]`, stacked along a first axis of N."""
    return jax.vmap(draw)(example_keys(key, batch))
