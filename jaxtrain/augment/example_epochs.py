"""How often a training example has been seen before: for augmentations that are another one in every epoch.

The loader knows it and says so around the augmentation of a batch. What an example itself draws, the same in all
epochs, is keyed by its pixels as they are loaded: those are the same in memory and streamed, whatever the order of the
examples, the batch and the devices are. (Equal images draw the same.)
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.random import divided_as, example_numbers


class Sighting(NamedTuple):
    """Of an example, or of each example of a batch along a first axis.

    Attributes:
      key: a typed key of the example, the same in every epoch.
      epoch: int32, how often the example has been seen before.
    """

    key: jax.Array
    epoch: jax.Array


_current: ContextVar[Sighting | None] = ContextVar("sighting", default=None)


@contextmanager
def seen(sighting: Sighting | None) -> Iterator[None]:
    """Says what is known of the batch, or of the example, that is augmented within."""
    token = _current.set(sighting)
    try:
        yield
    finally:
        _current.reset(token)


def current_sighting() -> Sighting | None:
    """What is known of the batch, or of the example, that is augmented; None outside of training."""
    return _current.get()


def sightings(key: jax.Array, images: jax.Array, step: jax.Array, size: int, examples: int) -> Sighting:
    """Of the batch of a step of a run, whose epochs follow on each other without a gap.

    Args:
      key: of the run.
      images: uint8[N, H, W, C], as loaded: a batch, or the part of it that `example_keys.numbered` speaks of.
      step: int32[].
      size: of a whole batch.
      examples: in an epoch.
    """
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, _digests(images))
    epochs = _epochs(step, example_numbers(images.shape[0]).astype(jnp.int32), size, examples)
    return Sighting(keys, divided_as(epochs, images))


def _epochs(step: jax.Array, numbers: jax.Array, size: int, examples: int) -> jax.Array:
    """int32[N]: the epochs of places of a batch, without a product that int32 cannot hold."""
    shared = math.gcd(examples, size)
    n, b = examples // shared, size // shared  # n steps are b epochs
    if n * size >= 2**31:
        raise ValueError(f"{examples} examples in batches of {size} are more than the step counter can hold")
    first = step % n * size  # of the positions since the last step with which an epoch began
    epochs: jax.Array = step // n * b + (first + numbers) // examples
    return epochs


def _digests(images: jax.Array) -> jax.Array:
    """uint32[N], by which images are told apart: sums of pixels with fixed random odd factors, modulo 2^32."""
    flat = images.reshape(images.shape[0], -1)
    factors = 2 * np.random.RandomState(0).randint(0, 2**31, (1, flat.shape[1]), np.uint32) + np.uint32(1)
    return (flat.astype(jnp.uint32) * factors).sum(axis=1, dtype=jnp.uint32)
