"""Named random streams: every key is a function of `(seed, stream name, step)`, and no key is kept in the state."""

import zlib

import jax
import numpy as np

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
