"""Gaussian blur, and sharpening by Pillow's 3x3 filter."""

import math

import jax
import jax.numpy as jnp

from jaxtrain.annotations import PositiveFloat, PositiveInt, Probability
from jaxtrain.augment.draws import apply_with_probability, draw_uniform
from jaxtrain.augment.geometry import Augmentation
from jaxtrain.augment.levels import blend, cast_like, to_float
from jaxtrain.augment.options import Strength, check_order, factor_range


def blur_given(sigma: jax.Array, image: jax.Array, size: int) -> jax.Array:
    """Convolve `image[H, W, C]` with a Gaussian of `sigma` pixels, cut to the odd `size`; borders are reflected."""
    radius = size // 2
    offsets = jnp.arange(-radius, radius + 1, dtype=jnp.float32)
    weights = jnp.exp(-0.5 * (offsets / jnp.maximum(sigma, 1e-3)) ** 2)
    weights = weights / weights.sum()
    values = to_float(image)
    for axis in (0, 1):
        padded = jnp.pad(values, [(radius * (a == axis),) * 2 for a in range(3)], mode="reflect")
        # Sums of shifted images: a convolution with different weights for each image is slow.
        shifted = (jax.lax.slice_in_dim(padded, i, i + image.shape[axis], axis=axis) for i in range(size))
        values = sum(weights[i] * part for i, part in enumerate(shifted))  # type: ignore[assignment]
    return cast_like(values, image)


def blur(
    sigma: tuple[PositiveFloat, PositiveFloat] = (0.1, 2.0),
    size: PositiveInt | None = None,
    probability: Probability = 0.5,
) -> Augmentation:
    """Blur with a Gaussian whose standard deviation is drawn uniformly.

    Args:
      sigma: bounds of the standard deviation in pixels.
      size: width of the kernel, odd; None for three times the largest `sigma` to each side.
      probability: the probability of applying it.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> image = jnp.zeros((5, 5, 1), jnp.uint8).at[2, 2].set(200)
      >>> augment = jaxtrain.augment.blur(sigma=(1.0, 1.0), size=3, probability=1.0)
      >>> print(jax.jit(augment)(jax.random.key(0), image)[..., 0])
      [[ 0  0  0  0  0]
       [ 0 15 25 15  0]
       [ 0 25 41 25  0]
       [ 0 15 25 15  0]
       [ 0  0  0  0  0]]
    """
    bounds = check_order(sigma, "sigma")
    taps = 2 * math.ceil(3 * bounds[1]) + 1 if size is None else size
    if taps % 2 == 0:
        raise ValueError(f"size={taps} must be odd; set it to {taps - 1} or {taps + 1}")
    return apply_with_probability(probability, lambda key, image: blur_given(draw_uniform(key, bounds), image, taps))


def sharpen_given(factor: jax.Array, image: jax.Array) -> jax.Array:
    """Blend `image[H, W, C]` with its smoothed version: factor 0 is smooth, 1 the image, 2 twice as sharp.

    The smoothing is Pillow's: a pixel has weight 5/13, each of its eight neighbors 1/13, and border pixels stay.
    """
    height, width, channels = image.shape
    if min(height, width) < 3:
        return image
    # Rows without a channel axis, so that neighbors are in one long vector: four times as fast on a CPU.
    values = to_float(image).reshape(height, width * channels)
    three = values[:-2] + values[1:-1] + values[2:]
    around = three[:, : -2 * channels] + three[:, channels:-channels] + three[:, 2 * channels :]
    inner = values[1:-1, channels:-channels]
    smooth = to_float(cast_like((around + 4 * inner) / 13, image))
    changed = cast_like(blend(factor, inner, smooth), image)
    return jnp.asarray(image).at[1:-1, 1:-1].set(changed.reshape(height - 2, width - 2, channels))


def sharpen(strength: Strength = 0.9, probability: Probability = 1.0) -> Augmentation:
    """Blend the image with its smoothed version by one factor.

    Args:
      strength: the range of the factor; 0 is smooth, 1 the image, 2 twice as sharp.
      probability: the probability of applying it.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> image = jnp.full((3, 3, 1), 90, jnp.uint8).at[1, 1].set(116)
      >>> augment = jaxtrain.augment.sharpen(strength=(2.0, 2.0))
      >>> jax.jit(augment)(jax.random.key(0), image)[..., 0].tolist()
      [[90, 90, 90], [90, 132, 90], [90, 90, 90]]
    """
    bounds = factor_range(strength, "strength")
    return apply_with_probability(probability, lambda key, image: sharpen_given(draw_uniform(key, bounds), image))
