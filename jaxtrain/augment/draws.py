"""What augmentations draw from a key: numbers in a range, and whether to do anything at all."""

import math

import jax
import jax.numpy as jnp

from jaxtrain.augment.geometry import Augmentation
from jaxtrain.augment.options import Range


def uniform(key: jax.Array, bounds: Range) -> jax.Array:
    """f32[] drawn uniformly between `bounds`."""
    return jax.random.uniform(key, (), jnp.float32, *bounds)


def log_uniform(key: jax.Array, bounds: Range) -> jax.Array:
    """f32[] between the positive `bounds`, whose logarithm is uniform."""
    low, high = bounds
    return jnp.exp(uniform(key, (math.log(low), math.log(high))))


def sometimes(probability: float, augment: Augmentation) -> Augmentation:
    """`augment` with `probability`, and the image as it is otherwise."""

    def maybe(key: jax.Array, image: jax.Array) -> jax.Array:
        chance, rest = jax.random.split(key)
        return jnp.where(jax.random.bernoulli(chance, probability), augment(rest, image), image)

    return maybe
