"""What augmentations draw from a key: numbers in a range, and whether to do anything at all."""

import math

import jax
import jax.numpy as jnp

from jaxtrain.augment.geometry import Augmentation
from jaxtrain.augment.options import Range


def uniform(key: jax.Array, bounds: Range) -> jax.Array:
    """f32[] drawn uniformly between `bounds`."""
    return jax.random.uniform(key, (), jnp.float32, *bounds)


def uniforms(key: jax.Array, *bounds: Range) -> tuple[jax.Array, ...]:
    """f32[] for each of `bounds`, drawn uniformly between them, all from one key at once."""
    shares = jax.random.uniform(key, (len(bounds),), jnp.float32)
    return tuple(low + shares[i] * (high - low) for i, (low, high) in enumerate(bounds))


def logarithms(bounds: Range) -> Range:
    """The logarithms of positive `bounds`."""
    return math.log(bounds[0]), math.log(bounds[1])


def log_uniform(key: jax.Array, bounds: Range) -> jax.Array:
    """f32[] between the positive `bounds`, whose logarithm is uniform."""
    return jnp.exp(uniform(key, logarithms(bounds)))


def sometimes(probability: float, augment: Augmentation) -> Augmentation:
    """`augment` with `probability`, and the image as it is otherwise."""

    def maybe(key: jax.Array, image: jax.Array) -> jax.Array:
        chance, rest = jax.random.split(key)
        return jnp.where(jax.random.bernoulli(chance, probability), augment(rest, image), image)

    return maybe
