"""How often a training example has been seen before, for augmentations that change from epoch to epoch.

The loader computes it and puts it into the step's context. What an example draws once for all epochs is keyed by its
pixels as they are loaded: those are the same in memory and streamed, whatever the order of the examples, the batch and
the devices are. (Equal images draw the same.)
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.random import example_indices, shard_like
from jaxtrain.step_context import ExampleEpochs


def count_epochs(key: jax.Array, images: jax.Array, step: jax.Array, size: int, examples: int) -> ExampleEpochs:
    """Return how often the examples of a batch were seen, in a run whose epochs follow each other without a gap.

    Args:
      key: the key of the run.
      images: uint8[N, H, W, C] as loaded, a batch or the part of it that is being processed.
      step: int32[], the step.
      size: the number of examples in the whole batch.
      examples: the number of examples in an epoch.
    """
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, _digests(images))
    epochs = _epochs(step, example_indices(images.shape[0]).astype(jnp.int32), size, examples)
    return ExampleEpochs(keys, shard_like(epochs, images))


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
