"""Resampling of images, at coordinates that a 3x3 matrix gives or at any others. All resampling is in this file.

Coordinates are pixels from the center of the image, with x to the right and y down. They give, for each pixel of the
result, its source in the image.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxtrain.augment.levels import cast_like, fill_pixel, to_float
from jaxtrain.augment.options import Fill, Interpolation

_FAR = 1e6
"""The largest absolute coordinate in pixels; clipping to it keeps every coordinate of a projection within int32."""


Matrix = Sequence[Sequence[Any]] | jax.Array
"""Three rows of three numbers, f32[] each; they are not stacked, since every use takes them apart."""


def coordinates(image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return x f32[1, W] and y f32[H, 1] of the pixels of `image[H, W, C]`, measured from its center."""
    height, width = image.shape[:2]
    x = jnp.arange(width, dtype=jnp.float32) - (width - 1) / 2
    y = jnp.arange(height, dtype=jnp.float32) - (height - 1) / 2
    return x.reshape(1, width), y.reshape(height, 1)


def warp_given(matrix: Matrix, image: jax.Array, interpolation: Interpolation, fill: Fill) -> jax.Array:
    """Return `image[H, W, C]` resampled: the pixel at (x, y) comes from `matrix` times (x, y, 1).

    The last row may be anything up to a factor (a projection). Points beyond its horizon are outside the image.
    """
    x, y = coordinates(image)
    column, row, depth = (by_x * x + by_y * y + shift for by_x, by_y, shift in matrix)
    depth = jnp.maximum(depth, 1e-6)
    return sample(image, column / depth, row / depth, interpolation, fill)


def sample(image: jax.Array, x: jax.Array, y: jax.Array, interpolation: Interpolation, fill: Fill) -> jax.Array:
    """Sample `image[H, W, C]` at `x` and `y` (f32[H', W']); return [H', W', C] in the dtype of `image`.

    With bilinear interpolation, pixels at the border blend with the fill color.
    """
    height, width = image.shape[:2]
    column = jnp.clip(x + (width - 1) / 2, -_FAR, _FAR)
    row = jnp.clip(y + (height - 1) / 2, -_FAR, _FAR)
    table = _table(image, fill)

    def pixels(column: jax.Array, row: jax.Array) -> jax.Array:
        return table.at[_table_rows(column, row, height, width, fill)].get(mode="promise_in_bounds")

    if interpolation == "nearest":
        return pixels(_floor(column + 0.5), _floor(row + 0.5))
    left, above = _floor(column), _floor(row)
    right = (column - left.astype(jnp.float32))[:, :, None]
    below = (row - above.astype(jnp.float32))[:, :, None]

    def line(down: int) -> jax.Array:
        first, second = (to_float(pixels(left + i, above + down)) for i in range(2))
        return first * (1 - right) + second * right

    mixed = line(0) * (1 - below) + line(1) * below
    return cast_like(mixed, image) if image.dtype == jnp.uint8 else mixed.astype(image.dtype)


def _floor(values: jax.Array) -> jax.Array:
    return jnp.floor(values).astype(jnp.int32)


def _table(image: jax.Array, fill: Fill) -> jax.Array:
    """Return the pixels of `image` in one array [H * W + 1, C], whose last row is the pixel outside the image.

    Writing them into an array makes XLA compute the image once. On a CPU it would otherwise compute the image again for
    each sampled pixel, which made bilinear policy operations more than twice as slow.
    """
    height, width, channels = image.shape
    outside = jnp.zeros((1, 1, channels), image.dtype) if isinstance(fill, str) else fill_pixel(fill, image)
    table = jnp.zeros((height * width + 1, channels), image.dtype)
    table = jax.lax.dynamic_update_slice(table, outside.reshape(1, channels), (height * width, 0))
    return jax.lax.dynamic_update_slice(table, image.reshape(height * width, channels), (0, 0))


def _table_rows(column: jax.Array, row: jax.Array, height: int, width: int, fill: Fill) -> jax.Array:
    """Return, for each pixel at (`column`, `row`), both int32[H', W'], the index of its entry in `_table`."""
    if fill == "reflect":
        column, row = _reflect(column, width), _reflect(row, height)
    inner_column, inner_row = jnp.clip(column, 0, width - 1), jnp.clip(row, 0, height - 1)
    index = inner_row * width + inner_column
    if isinstance(fill, str):
        return index
    return jnp.where((column == inner_column) & (row == inner_row), index, height * width)


def _reflect(index: jax.Array, size: int) -> jax.Array:
    """Return `index` reflected about the first and the last pixel, as often as necessary."""
    period = max(2 * (size - 1), 1)
    index = index % period
    return jnp.minimum(index, period - index) if size > 1 else jnp.zeros_like(index)
