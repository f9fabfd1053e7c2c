"""Changes of each value by itself: gamma, solarize, posterize, invert, and two that look at the histogram first."""

from typing import Annotated

import jax
import jax.numpy as jnp

from jaxtrain.annotations import Interval, Probability
from jaxtrain.augment.draws import log_uniform, sometimes
from jaxtrain.augment.geometry import Augmentation
from jaxtrain.augment.histograms import equalizing, histogram, looked_up
from jaxtrain.augment.levels import bytes_of, levels, like, top
from jaxtrain.augment.options import Ratios, ordered

Bits = Annotated[int, Interval(least=1, most=8)]


def gamma_given(exponent: jax.Array, image: jax.Array) -> jax.Array:
    """`image[H, W, C]` in [0, 1] to the power `exponent`; more than 1 is darker."""
    white = top(image)
    return like(white * (levels(image) / white) ** exponent, image)


def solarize_given(threshold: jax.Array, image: jax.Array) -> jax.Array:
    """`image[H, W, C]` inverted where it is `threshold`, a fraction of white, or brighter."""
    return jnp.where(levels(image) >= threshold * top(image), invert_given(image), image)


def posterize_given(bits: jax.Array, image: jax.Array) -> jax.Array:
    """`image[H, W, C]` with only the first `bits`, int32[] in [0, 8], of the 8 of each value; 8 leave it as it is."""
    kept = bytes_of(image) & -jnp.left_shift(1, 8 - bits)
    return jnp.where(bits >= 8, image, like(kept.astype(jnp.float32) * (top(image) / 255), image))


def invert_given(image: jax.Array) -> jax.Array:
    """White minus `image[H, W, C]`."""
    return like(top(image) - levels(image), image)


def stretched(low: jax.Array, high: jax.Array, image: jax.Array) -> jax.Array:
    """`image[H, W, C]` with `low` f32[1, 1, C] made black and `high` white; as it is where the two are equal."""
    values = (levels(image) - low) * (top(image) / jnp.where(high > low, high - low, 1))
    return jnp.where(high > low, like(values, image), image)


def autocontrast_given(image: jax.Array) -> jax.Array:
    """`image[H, W, C]` with each channel stretched to the full range; one that is constant stays."""
    values = levels(image)
    return stretched(values.min(axis=(0, 1), keepdims=True), values.max(axis=(0, 1), keepdims=True), image)


def equalize_given(image: jax.Array) -> jax.Array:
    """`image[H, W, C]` with the histogram of each channel made flat.

    Floats are taken to the nearest of 256 levels first, for which the formula is made.
    """
    found = looked_up(equalizing(histogram(image)), image)
    return like(found.astype(jnp.float32) * (top(image) / 255), image)


def gamma(exponents: Ratios = (0.8, 1.25), probability: Probability = 1.0) -> Augmentation:
    """Raises pixels in [0, 1] to a power drawn uniformly in its logarithm."""
    bounds = ordered(exponents, "exponents")
    return sometimes(probability, lambda key, image: gamma_given(log_uniform(key, bounds), image))


def solarize(threshold: Probability = 0.5, probability: Probability = 0.5) -> Augmentation:
    """Inverts what is as bright as `threshold`, a fraction of white, or brighter."""
    return sometimes(probability, lambda _, image: solarize_given(jnp.float32(threshold), image))


def posterize(bits: Bits = 4, probability: Probability = 0.5) -> Augmentation:
    """Keeps the first `bits` of the 8 of each value."""
    return sometimes(probability, lambda _, image: posterize_given(jnp.int32(bits), image))


def invert(probability: Probability = 0.5) -> Augmentation:
    """Makes a negative."""
    return sometimes(probability, lambda _, image: invert_given(image))


def autocontrast(probability: Probability = 0.5) -> Augmentation:
    """Stretches each channel to the full range."""
    return sometimes(probability, lambda _, image: autocontrast_given(image))


def equalize(probability: Probability = 0.5) -> Augmentation:
    """Makes the histogram of each channel flat."""
    return sometimes(probability, lambda _, image: equalize_given(image))
