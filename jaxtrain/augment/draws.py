"""Draws of augmentations from a key: numbers in a range, and whether to apply the augmentation."""

import math

import jax
import jax.numpy as jnp

from jaxtrain.augment.geometry import Augmentation
from jaxtrain.augment.options import Range


def draw_uniform(key: jax.Array, bounds: Range) -> jax.Array:
    """Draw f32[] uniformly between `bounds`."""
    return jax.random.uniform(key, (), jnp.float32, *bounds)


def draw_uniforms(key: jax.Array, *bounds: Range) -> tuple[jax.Array, ...]:
    """Draw one f32[] for each of `bounds`, uniformly between them, all from one key in one call."""
    shares = jax.random.uniform(key, (len(bounds),), jnp.float32)
    return tuple(low + shares[i] * (high - low) for i, (low, high) in enumerate(bounds))


def log_bounds(bounds: Range) -> Range:
    """Return the logarithms of positive `bounds`."""
    return math.log(bounds[0]), math.log(bounds[1])


def draw_log_uniform(key: jax.Array, bounds: Range) -> jax.Array:
    """Draw f32[] between the positive `bounds`, uniformly in its logarithm."""
    return jnp.exp(draw_uniform(key, log_bounds(bounds)))


def apply_with_probability(probability: float, augment: Augmentation) -> Augmentation:
    """Return an augmentation that applies `augment` with `probability` and otherwise returns the image unchanged."""

    def maybe(key: jax.Array, image: jax.Array) -> jax.Array:
        chance, rest = jax.random.split(key)
        return jnp.where(jax.random.bernoulli(chance, probability), augment(rest, image), image)

    return maybe
