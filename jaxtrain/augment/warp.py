"""The one place where images are resampled: at coordinates of a 3x3 matrix, or at any others.

Coordinates are pixels from the center of the image, x to the right and y down, and say for each pixel of the result
where it comes from.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxtrain.augment.levels import color, levels, like
from jaxtrain.augment.options import Fill, Interpolation

_FAR = 1e6
"""Coordinates are held to this many pixels, so that they fit an int32 whatever a projection makes of them."""


Matrix = Sequence[Sequence[Any]] | jax.Array
"""Three rows of three numbers, f32[] each; apart, since to stack them would only be to take them apart again."""


def coordinates(image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """x f32[1, W] and y f32[H, 1] of the pixels of `image[H, W, C]`, from its center."""
    height, width = image.shape[:2]
    x = jnp.arange(width, dtype=jnp.float32) - (width - 1) / 2
    y = jnp.arange(height, dtype=jnp.float32) - (height - 1) / 2
    return x.reshape(1, width), y.reshape(height, 1)


def warp_given(matrix: Matrix, image: jax.Array, interpolation: Interpolation, fill: Fill) -> jax.Array:
    """`image[H, W, C]` with its pixel at (x, y) taken from `matrix` times (x, y, 1).

    Up to a factor the last row may be anything (a projection); what lies beyond its horizon is outside the image.
    """
    x, y = coordinates(image)
    column, row, depth = (by_x * x + by_y * y + shift for by_x, by_y, shift in matrix)
    depth = jnp.maximum(depth, 1e-6)
    return sample(image, column / depth, row / depth, interpolation, fill)


def sample(image: jax.Array, x: jax.Array, y: jax.Array, interpolation: Interpolation, fill: Fill) -> jax.Array:
    """`image[H, W, C]` at the coordinates `x` and `y` f32[H', W'], as [H', W', C] of its dtype.

    Bilinear sampling mixes pixels at the border with what lies outside.
    """
    height, width = image.shape[:2]
    column = jnp.clip(x + (width - 1) / 2, -_FAR, _FAR)
    row = jnp.clip(y + (height - 1) / 2, -_FAR, _FAR)
    table = _table(image, fill)

    def pixels(column: jax.Array, row: jax.Array) -> jax.Array:
        return table.at[_places(column, row, height, width, fill)].get(mode="promise_in_bounds")

    if interpolation == "nearest":
        return pixels(_whole(column + 0.5), _whole(row + 0.5))
    left, above = _whole(column), _whole(row)
    right = (column - left.astype(jnp.float32))[:, :, None]
    below = (row - above.astype(jnp.float32))[:, :, None]

    def line(down: int) -> jax.Array:
        first, second = (levels(pixels(left + i, above + down)) for i in range(2))
        return first * (1 - right) + second * right

    mixed = line(0) * (1 - below) + line(1) * below
    return like(mixed, image) if image.dtype == jnp.uint8 else mixed.astype(image.dtype)


def _whole(values: jax.Array) -> jax.Array:
    return jnp.floor(values).astype(jnp.int32)


def _table(image: jax.Array, fill: Fill) -> jax.Array:
    """The pixels of `image` one after the other and then the one outside, [H * W + 1, C].

    Written into an array, so that what the image is computed from is computed once: XLA on a CPU would otherwise do it
    anew for each pixel that is sampled, which made bilinear operations of policies more than twice as slow.
    """
    height, width, channels = image.shape
    outside = jnp.zeros((1, 1, channels), image.dtype) if isinstance(fill, str) else color(fill, image)
    table = jnp.zeros((height * width + 1, channels), image.dtype)
    table = jax.lax.dynamic_update_slice(table, outside.reshape(1, channels), (height * width, 0))
    return jax.lax.dynamic_update_slice(table, image.reshape(height * width, channels), (0, 0))


def _places(column: jax.Array, row: jax.Array, height: int, width: int, fill: Fill) -> jax.Array:
    """Where the pixels at `column` and `row` int32[H', W'] are in the table."""
    if fill == "reflect":
        column, row = _mirrored(column, width), _mirrored(row, height)
    inner_column, inner_row = jnp.clip(column, 0, width - 1), jnp.clip(row, 0, height - 1)
    place = inner_row * width + inner_column
    if isinstance(fill, str):
        return place
    return jnp.where((column == inner_column) & (row == inner_row), place, height * width)


def _mirrored(place: jax.Array, size: int) -> jax.Array:
    """Places reflected about the first and the last pixel, as often as it takes."""
    period = max(2 * (size - 1), 1)
    place = place % period
    return jnp.minimum(place, period - place) if size > 1 else jnp.zeros_like(place)
