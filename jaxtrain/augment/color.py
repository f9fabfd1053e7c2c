"""Brightness, contrast, saturation and hue: each alone, and together as color jitter.

Factors and their meaning are those of Pillow's ImageEnhance and of torchvision. Images have 1 or 3 channels; one
channel has no color, so saturation and hue leave it as it is.
"""

import jax
import jax.numpy as jnp

from jaxtrain.annotations import Probability
from jaxtrain.augment.draws import sometimes, uniform
from jaxtrain.augment.geometry import Augmentation
from jaxtrain.augment.levels import blend, grey, levels, like, top
from jaxtrain.augment.options import Strength, Turns, about_one, both_ways


def brightness_given(factor: jax.Array, image: jax.Array) -> jax.Array:
    """`image[H, W, C]` times `factor`: 0 is black, 1 the image."""
    return like(levels(image) * factor, image)


def contrast_given(factor: jax.Array, image: jax.Array) -> jax.Array:
    """`image[H, W, C]` against the mean of its luma: 0 is plain grey, 1 the image."""
    return contrast_about(grey(levels(image)).mean(keepdims=True), factor, image)


def contrast_about(middle: jax.Array, factor: jax.Array, image: jax.Array) -> jax.Array:
    """`image[H, W, C]` against the level `middle` f32[1, 1, 1]."""
    return like(blend(factor, levels(image), middle), image)


def saturation_given(factor: jax.Array, image: jax.Array) -> jax.Array:
    """`image[H, W, C]` against its luma: 0 is black and white, 1 the image."""
    values = levels(image)
    return like(blend(factor, values, grey(values)), image)


def hue_given(turn: jax.Array, image: jax.Array) -> jax.Array:
    """`image[H, W, C]` with hues moved by `turn` of the color circle (HSV); 0 and 1 change nothing."""
    if image.shape[2] == 1:
        return image
    grey(levels(image))  # which says what is wrong with other channels
    red, green, blue = (levels(image)[:, :, i] / top(image) for i in range(3))
    value = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
    over = 1 / jnp.where(chroma == 0, 1, chroma)
    sixths = jnp.where(
        value == red,
        (green - blue) * over,
        jnp.where(value == green, 2 + (blue - red) * over, 4 + (red - green) * over),
    )

    def channel(offset: int) -> jax.Array:
        place = sixths + 6 * turn + offset
        place = place - 6 * jnp.floor(place / 6)  # the remainder, which itself is a slow loop on a CPU
        return value - chroma * jnp.clip(jnp.minimum(place, 4 - place), 0, 1)

    return like(jnp.stack([channel(5), channel(3), channel(1)], axis=-1) * top(image), image)


def random_gray_given(gray: jax.Array, image: jax.Array) -> jax.Array:
    """`image[H, W, C]` with its luma in each channel where the boolean scalar `gray` is true."""
    values = levels(image)
    return jnp.where(gray, like(jnp.broadcast_to(grey(values), values.shape), image), image)


def brightness(strength: Strength = 0.4, probability: Probability = 1.0) -> Augmentation:
    """Multiplies all pixels by one factor."""
    bounds = about_one(strength, "strength")
    return sometimes(probability, lambda key, image: brightness_given(uniform(key, bounds), image))


def contrast(strength: Strength = 0.4, probability: Probability = 1.0) -> Augmentation:
    """Moves all pixels to or from the image's mean luma by one factor."""
    bounds = about_one(strength, "strength")
    return sometimes(probability, lambda key, image: contrast_given(uniform(key, bounds), image))


def saturation(strength: Strength = 0.4, probability: Probability = 1.0) -> Augmentation:
    """Moves every pixel to or from its luma by one factor."""
    bounds = about_one(strength, "strength")
    return sometimes(probability, lambda key, image: saturation_given(uniform(key, bounds), image))


def hue(turns: Turns = 0.1, probability: Probability = 1.0) -> Augmentation:
    """Turns all hues by one part of the color circle."""
    bounds = both_ways(turns, "turns")
    return sometimes(probability, lambda key, image: hue_given(uniform(key, bounds), image))


def random_gray(probability: Probability = 0.1) -> Augmentation:
    """Takes the color away with `probability`; the channels stay as many."""

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        return random_gray_given(jax.random.bernoulli(key, probability), image)

    return augment
