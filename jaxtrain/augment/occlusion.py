"""Occlusion of rectangles: cutout and random erasing."""

from collections.abc import Sequence
from typing import Annotated, Literal

import jax
import jax.numpy as jnp

from jaxtrain.annotations import Interval, PositiveInt, Probability
from jaxtrain.augment.draws import apply_with_probability, log_bounds
from jaxtrain.augment.geometry import Augmentation
from jaxtrain.augment.levels import cast_like, fill_pixel
from jaxtrain.augment.options import Color, Ratios, check_order

_Share = Annotated[float, Interval(above=0, most=1)]
_ATTEMPTS = 10
"""The number of rectangles that random erasing draws to find one that fits; torchvision's number."""


def erase_given(box: Sequence[jax.typing.ArrayLike] | jax.Array, image: jax.Array, replacement: jax.Array) -> jax.Array:
    """Replace `box`, int32[4] or four numbers, in `image[H, W, C]` by `replacement`, which broadcasts to the image.

    The box is (first row, first column, height, width) and may extend beyond the image.
    """
    top_row, left, height, width = box
    row = jnp.arange(image.shape[0], dtype=jnp.int32).reshape(-1, 1, 1) - top_row
    column = jnp.arange(image.shape[1], dtype=jnp.int32).reshape(1, -1, 1) - left
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    return jnp.where(inside, replacement, image)


def cutout_given(center: jax.Array, image: jax.Array, size: int, fill: Color = 0.5) -> jax.Array:
    """Replace a square of `size` around `center` int32[2] (row, column) in `image[H, W, C]`, clipped to the image."""
    corner = center - size // 2
    return erase_given((corner[0], corner[1], size, size), image, fill_pixel(fill, image))


def cutout(size: PositiveInt = 16, fill: Color = 0.5, probability: Probability = 1.0) -> Augmentation:
    """Replace a square by a color. Its center is drawn from all pixels, so part of the square may lie outside.

    Args:
      size: side of the square in pixels; DeVries & Taylor 2017 use 16 for CIFAR-10, 8 for CIFAR-100, 20 for SVHN.
      fill: color of the square. The paper fills zeros after normalization, which is the mean of the data set: set that
        mean to be exact. The default, middle gray, is close to it for photographs.
      probability: the probability of applying it.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> image = jnp.ones((4, 4, 1))
      >>> augment = jaxtrain.augment.cutout(size=2, fill=0.0)
      >>> print(jax.jit(augment)(jax.random.key(0), image)[..., 0])
      [[1. 1. 1. 1.]
       [1. 0. 0. 1.]
       [1. 0. 0. 1.]
       [1. 1. 1. 1.]]
    """

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        height, width = image.shape[:2]
        if size > max(height, width):
            raise ValueError(f"a square of {size} can hide an image of {height}x{width}; choose a smaller size")
        center = jax.random.randint(key, (2,), 0, jnp.array([height, width], jnp.int32), jnp.int32)
        return cutout_given(center, image, size, fill)

    return apply_with_probability(probability, augment)


def erasing_box(key: jax.Array, height: int, width: int, area: tuple[float, float], aspect: Ratios) -> jax.Array:
    """Return int32[4], the first of ten rectangles that fits in the image, or an empty one.

    See `random_erasing`.
    """
    shares = jax.random.uniform(key, (_ATTEMPTS, 4), jnp.float32)
    first, last = log_bounds(aspect)
    pixels = height * width * (area[0] + shares[:, :1] * (area[1] - area[0]))
    ratio = jnp.exp(first + shares[:, 1:2] * (last - first))
    size = jnp.round(jnp.sqrt(pixels * jnp.concatenate([ratio, 1 / ratio], axis=1))).astype(jnp.int32)
    room = jnp.array([[height, width]], jnp.int32) - size
    corner = jnp.floor(shares[:, 2:] * (room + 1).astype(jnp.float32)).astype(jnp.int32)
    fits = ((room > 0) & (size > 0)).all(axis=1, keepdims=True)
    boxes = jnp.concatenate([corner, jnp.where(fits, size, 0)], axis=1)
    return boxes[jnp.argmax(fits)]


def _draw_noise(key: jax.Array, image: jax.Array) -> jax.Array:
    if image.dtype == jnp.uint8:
        return jax.random.bits(key, image.shape, jnp.uint8)
    return cast_like(jax.random.uniform(key, image.shape, jnp.float32), image)


def random_erasing(
    probability: Probability = 0.5,
    area: tuple[_Share, _Share] = (0.02, 0.4),
    aspect: Ratios = (0.3, 1 / 0.3),
    fill: Color | Literal["random"] = "random",
) -> Augmentation:
    """Replace a rectangle inside the image (Zhong et al. 2017, algorithm 1).

    The height over width is drawn uniformly in its logarithm, as torchvision does.

    Args:
      probability: the probability of applying it.
      area: bounds of the rectangle's area, as a fraction of the image's.
      aspect: bounds of the rectangle's height over its width.
      fill: a color, or "random" for values drawn uniformly for each pixel and channel.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> image = jnp.ones((4, 6, 1))
      >>> augment = jaxtrain.augment.random_erasing(probability=1.0, fill=0.0)
      >>> print(jax.jit(augment)(jax.random.key(0), image)[..., 0])
      [[1. 0. 0. 0. 1. 1.]
       [1. 0. 0. 0. 1. 1.]
       [1. 1. 1. 1. 1. 1.]
       [1. 1. 1. 1. 1. 1.]]
    """
    shares, ratios = check_order(area, "area"), check_order(aspect, "aspect")

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        box_key, noise_key = jax.random.split(key)
        height, width = image.shape[:2]
        box = erasing_box(box_key, height, width, shares, ratios)
        replacement = _draw_noise(noise_key, image) if fill == "random" else fill_pixel(fill, image)
        return erase_given(box, image, replacement)

    return apply_with_probability(probability, augment)
