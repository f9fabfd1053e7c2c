"""Gaussian blur, and sharpening by Pillow's small filter."""

import math

import jax
import jax.numpy as jnp

from jaxtrain.annotations import PositiveFloat, PositiveInt, Probability
from jaxtrain.augment.draws import sometimes, uniform
from jaxtrain.augment.geometry import Augmentation
from jaxtrain.augment.levels import blend, levels, like
from jaxtrain.augment.options import Strength, about_one, ordered


def blur_given(sigma: jax.Array, image: jax.Array, size: int) -> jax.Array:
    """`image[H, W, C]` convolved with a Gaussian of `sigma` pixels, cut to the odd `size`; borders reflect."""
    radius = size // 2
    offsets = jnp.arange(-radius, radius + 1, dtype=jnp.float32)
    weights = jnp.exp(-0.5 * (offsets / jnp.maximum(sigma, 1e-3)) ** 2)
    weights = weights / weights.sum()
    values = levels(image)
    for axis in (0, 1):
        padded = jnp.pad(values, [(radius * (a == axis),) * 2 for a in range(3)], mode="reflect")
        # Sums of shifted images rather than a convolution, which with weights for each image is slow.
        shifted = (jax.lax.slice_in_dim(padded, i, i + image.shape[axis], axis=axis) for i in range(size))
        values = sum(weights[i] * part for i, part in enumerate(shifted))  # type: ignore[assignment]
    return like(values, image)


def blur(
    sigma: tuple[PositiveFloat, PositiveFloat] = (0.1, 2.0),
    size: PositiveInt | None = None,
    probability: Probability = 0.5,
) -> Augmentation:
    """Blurs with a uniformly drawn standard deviation.

    Args:
      sigma: its bounds in pixels.
      size: of the kernel, odd; by default it reaches three of the largest `sigma` to each side.
      probability: of doing it at all.
    """
    bounds = ordered(sigma, "sigma")
    taps = 2 * math.ceil(3 * bounds[1]) + 1 if size is None else size
    if taps % 2 == 0:
        raise ValueError(f"size={taps} has no middle; take {taps - 1} or {taps + 1}")
    return sometimes(probability, lambda key, image: blur_given(uniform(key, bounds), image, taps))


def sharpen_given(factor: jax.Array, image: jax.Array) -> jax.Array:
    """`image[H, W, C]` against its smoothed self: 0 is smooth, 1 the image, 2 twice as sharp.

    Smoothing is Pillow's: a pixel weighs 5/13, each of its eight neighbors 1/13, and pixels of the border stay.
    """
    height, width, channels = image.shape
    if min(height, width) < 3:
        return image
    # Rows without an axis for channels, so that neighbors are in one long vector; four times as fast on a CPU.
    values = levels(image).reshape(height, width * channels)
    three = values[:-2] + values[1:-1] + values[2:]
    around = three[:, : -2 * channels] + three[:, channels:-channels] + three[:, 2 * channels :]
    inner = values[1:-1, channels:-channels]
    smooth = levels(like((around + 4 * inner) / 13, image))
    changed = like(blend(factor, inner, smooth), image)
    return jnp.asarray(image).at[1:-1, 1:-1].set(changed.reshape(height - 2, width - 2, channels))


def sharpen(strength: Strength = 0.9, probability: Probability = 1.0) -> Augmentation:
    """Moves every pixel to or from its smoothed neighborhood by one factor."""
    bounds = about_one(strength, "strength")
    return sometimes(probability, lambda key, image: sharpen_given(uniform(key, bounds), image))
