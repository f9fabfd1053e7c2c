"""The number of epochs in which a training example was seen, for augmentations that change from epoch to epoch.

The loader computes it and puts it into the step's context. A draw that an example keeps in all epochs is keyed by the
example's pixels as loaded. They are the same in memory and streamed, and for any order, batch and devices. Equal images
get equal draws.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.random import example_indices, shard_like
from jaxtrain.step_context import ExampleEpochs


def count_epochs(key: jax.Array, images: jax.Array, step: jax.Array, size: int, examples: int) -> ExampleEpochs:
    """Return the number of epochs in which each example of a batch was seen, in a run with consecutive epochs.

    Args:
      key: the key of the run.
      images: uint8[N, H, W, C] as loaded, a batch or the part of it that is being processed.
      step: int32[], the step.
      size: the number of examples in the whole batch.
      examples: the number of examples in an epoch.
    """
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, _digests(images))
    epochs = batch_epochs(step, example_indices(images.shape[0]).astype(jnp.int32), size, examples)
    return ExampleEpochs(keys, shard_like(epochs, images))


def batch_epochs(step: jax.Array, indices: jax.Array, size: int, examples: int) -> jax.Array:
    """Return int32[N], the epochs of the batch `indices`, without a product that overflows int32."""
    shared = math.gcd(examples, size)
    n, b = examples // shared, size // shared  # n steps are b epochs
    if n * size >= 2**31:
        raise ValueError(
            f"{examples} examples in batches of {size} overflow the int32 positions; change the batch size"
        )
    first = step % n * size  # the first position of the batch, counted from the last step at which an epoch began
    epochs: jax.Array = step // n * b + (first + indices) // examples
    return epochs


def _digests(images: jax.Array) -> jax.Array:
    """Return uint32[N], hashes of the images: sums of pixels with fixed random odd factors, modulo 2^32."""
    flat = images.reshape(images.shape[0], -1)
    factors = 2 * np.random.RandomState(0).randint(0, 2**31, (1, flat.shape[1]), np.uint32) + np.uint32(1)
    return (flat.astype(jnp.uint32) * factors).sum(axis=1, dtype=jnp.uint32)
