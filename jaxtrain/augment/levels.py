"""Conversions between images and float32 values, which are 0 to 255 for uint8 and 0 to 1 for floats.

Results in uint8 are rounded to the nearest level. Pillow and torchvision truncate, so they may be one level darker.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.augment.options import Color

_LUMA_WEIGHTS = (0.299, 0.587, 0.114)
"""Luma weights of red, green and blue, ITU-R BT.601."""


def white_value(image: jax.Array) -> float:
    """Return the value of white: 255 for uint8, 1 for floats; raise `ValueError` for other dtypes."""
    if image.dtype == jnp.uint8:
        return 255.0
    if jnp.issubdtype(image.dtype, jnp.floating):
        return 1.0
    raise ValueError(f"images must be uint8 in [0, 255] or floats in [0, 1], but these are {image.dtype}")


def to_float(image: jax.Array) -> jax.Array:
    """Return `image[H, W, C]` as float32, with the same values."""
    return image.astype(jnp.float32)


def cast_like(values: jax.Array, image: jax.Array) -> jax.Array:
    """Clip `values` f32 to the range of `image` and convert them to its dtype; uint8 is rounded."""
    values = jnp.clip(values, 0, white_value(image))
    return (jnp.round(values) if image.dtype == jnp.uint8 else values).astype(image.dtype)


def nearest_levels(image: jax.Array) -> jax.Array:
    """Return the nearest of 256 levels for each value, int32[H, W, C]."""
    return jnp.round(to_float(image) * (255 / white_value(image))).astype(jnp.int32)


def fill_pixel(fill: Color, image: jax.Array) -> jax.Array:
    """Return `fill` as one pixel [1, 1, C] in the dtype of `image`.

    Raises:
      ValueError: the numbers of values and of channels differ.
    """
    channels = image.shape[2]
    if isinstance(fill, tuple) and len(fill) != channels:
        raise ValueError(f"fill has {len(fill)} numbers, but the images have {channels} channels; give one for each")
    pixel = np.broadcast_to(np.asarray(fill, np.float32), (channels,)).reshape(1, 1, channels)
    return cast_like(jnp.asarray(pixel) * white_value(image), image)


def luma(values: jax.Array) -> jax.Array:
    """Return the luma f32[H, W, 1] of `values` f32[H, W, 3]; one channel is returned unchanged."""
    channels = values.shape[2]
    if channels == 1:
        return values
    if channels != 3:
        raise ValueError(f"brightness and hue need images of 1 or 3 channels; these have {channels}")
    return sum(weight * values[:, :, i : i + 1] for i, weight in enumerate(_LUMA_WEIGHTS))  # type: ignore[return-value]


def blend(factor: jax.Array, values: jax.Array, other: jax.Array) -> jax.Array:
    """Return factor * values + (1 - factor) * other: exactly `values` for a factor of 1, `other` for 0."""
    return factor * values + (1 - factor) * other
