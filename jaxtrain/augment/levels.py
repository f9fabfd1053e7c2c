"""Pixels as float32, whatever the image holds, and back: 0 to 255 for uint8, 0 to 1 for floats.

uint8 is rounded to the nearest level. Pillow and torchvision cut the fraction off, so they may be one level darker.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.augment.options import Color

_GREY = (0.299, 0.587, 0.114)
"""Luma of red, green and blue, ITU-R BT.601."""


def top(image: jax.Array) -> float:
    """The value of white: 255 for uint8, 1 for floats. `ValueError` for what is neither."""
    if image.dtype == jnp.uint8:
        return 255.0
    if jnp.issubdtype(image.dtype, jnp.floating):
        return 1.0
    raise ValueError(f"images are uint8 in [0, 255] or floats in [0, 1], and these are {image.dtype}")


def levels(image: jax.Array) -> jax.Array:
    """`image[H, W, C]` as float32, values as they are."""
    return image.astype(jnp.float32)


def like(values: jax.Array, image: jax.Array) -> jax.Array:
    """`values` f32 held to the range of `image`, in its dtype; uint8 rounded."""
    values = jnp.clip(values, 0, top(image))
    return (jnp.round(values) if image.dtype == jnp.uint8 else values).astype(image.dtype)


def bytes_of(image: jax.Array) -> jax.Array:
    """int32[H, W, C]: the nearest of 256 levels."""
    return jnp.round(levels(image) * (255 / top(image))).astype(jnp.int32)


def color(fill: Color, image: jax.Array) -> jax.Array:
    """`fill` as one pixel [1, 1, C] in the dtype of `image`; `ValueError` where the channels are not as many."""
    channels = image.shape[2]
    if isinstance(fill, tuple) and len(fill) != channels:
        raise ValueError(f"fill has {len(fill)} numbers and the images have {channels} channels; give one for each")
    pixel = np.broadcast_to(np.asarray(fill, np.float32), (channels,)).reshape(1, 1, channels)
    return like(jnp.asarray(pixel) * top(image), image)


def grey(values: jax.Array) -> jax.Array:
    """f32[H, W, 1], the luma of `values` f32[H, W, 3]; one channel is grey already."""
    channels = values.shape[2]
    if channels == 1:
        return values
    if channels != 3:
        raise ValueError(f"only images of 1 or 3 channels have a brightness and a hue; these have {channels}")
    return sum(weight * values[:, :, i : i + 1] for i, weight in enumerate(_GREY))  # type: ignore[return-value]


def blend(factor: jax.Array, values: jax.Array, other: jax.Array) -> jax.Array:
    """`values` for a factor of 1, exactly; `other` for 0; beyond `values` for more than 1."""
    return factor * values + (1 - factor) * other
