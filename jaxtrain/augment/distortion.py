"""Views from aside (projections) and through a lens (radial distortion)."""

from typing import Annotated

import jax
import jax.numpy as jnp

from jaxtrain.augment.draws import sometimes, uniform
from jaxtrain.augment.geometry import Augmentation
from jaxtrain.augment.options import Fill, Interpolation
from jaxtrain.augment.warp import coordinates, sample, warp_given
from jaxtrain.config.annotations import Interval, NonNegativeFloat, Probability

Distortion = Annotated[float, Interval(least=0, below=0.66)]
"""Below two thirds, since corners that move farther can make a quadrilateral that is folded over."""

_CORNERS = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))


def projection_matrix(corners: jax.Array, height: int, width: int) -> jax.Array:
    """f32[3, 3] that shows the image in a quadrilateral, from the result to the image, for `warp_given`.

    Args:
      corners: f32[4, 2], where the corners of the image come to lie, as (x, y) in fractions of width and height from
        the upper left corner: upper left, upper right, lower right, lower left. They make a convex shape.
      height: of the image in pixels.
      width: of the image in pixels.
    """
    a, b, c, d = ((p - 0.5) * jnp.array([width, height], jnp.float32) for p in corners)
    # Heckbert 1989, Fundamentals of texture mapping and image warping, section 2.2.3: the unit square to a
    # quadrilateral. Its adjugate leads back, with a last row that is positive inside.
    total, right, left = a - b + c - d, b - c, d - c
    area = _cross(right, left)
    g, h = _cross(total, left) / area, _cross(right, total) / area
    first, second, third = b - a + g * b, d - a + h * d, a
    columns = [jnp.append(first, g), jnp.append(second, h), jnp.append(third, 1.0)]
    adjugate = jnp.stack([jnp.cross(columns[(i + 1) % 3], columns[(i + 2) % 3]) for i in range(3)])
    # From the unit square to pixels from the center.
    to_column = width * (adjugate[0] - 0.5 * adjugate[2])
    to_row = height * (adjugate[1] - 0.5 * adjugate[2])
    center = adjugate[2, 2]  # the depth at the center of the result, which is 1 where nothing moved
    return jnp.stack([to_column, to_row, adjugate[2]]) / center


def _cross(p: jax.Array, q: jax.Array) -> jax.Array:
    return p[0] * q[1] - p[1] * q[0]


def projective_given(
    corners: jax.Array, image: jax.Array, interpolation: Interpolation = "bilinear", fill: Fill = 0.0
) -> jax.Array:
    """`image[H, W, C]` with its corners at `corners` f32[4, 2]; see `projection_matrix`."""
    return warp_given(projection_matrix(corners, *image.shape[:2]), image, interpolation, fill)


def projective(
    distortion: Distortion = 0.3,
    probability: Probability = 0.5,
    interpolation: Interpolation = "bilinear",
    fill: Fill = 0.0,
) -> Augmentation:
    """Moves each corner inwards by up to `distortion` of half a side, as torchvision's RandomPerspective does."""

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        corners = jnp.array(_CORNERS, jnp.float32)
        moved = jax.random.uniform(key, (4, 2), jnp.float32, 0, distortion / 2)
        return projective_given(corners + moved * jnp.sign(0.5 - corners), image, interpolation, fill)

    return sometimes(probability, augment)


def lens_given(
    k1: jax.Array, k2: jax.Array, image: jax.Array, interpolation: Interpolation = "bilinear", fill: Fill = 0.0
) -> jax.Array:
    """`image[H, W, C]` through a lens: what is at radius r comes from r (1 + k1 r^2 + k2 r^4).

    Radii are in units of half the diagonal, so that the corners are at 1. Positive `k1` and `k2` bend lines outwards (a
    barrel), negative ones inwards (a pincushion). Brown 1966, Decentering distortion of lenses.
    """
    height, width = image.shape[:2]
    x, y = coordinates(image)
    squared = (x * x + y * y) * (4 / (height * height + width * width))
    factor = 1 + k1 * squared + k2 * squared * squared
    return sample(image, x * factor, y * factor, interpolation, fill)


def lens(
    k1: NonNegativeFloat = 0.2,
    k2: NonNegativeFloat = 0.05,
    probability: Probability = 1.0,
    interpolation: Interpolation = "bilinear",
    fill: Fill = 0.0,
) -> Augmentation:
    """Distorts radially with coefficients drawn from [-k1, k1] and [-k2, k2].

    `ValueError` where the strongest draw would fold the image over: r (1 - k1 r^2 - k2 r^4) must rise as far as the
    corners.
    """
    if 3 * k1 + 5 * k2 >= 1:
        raise ValueError(f"k1={k1} and k2={k2} can fold the image over; 3 k1 + 5 k2 must be less than 1")

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        first, second = jax.random.split(key)
        return lens_given(uniform(first, (-k1, k1)), uniform(second, (-k2, k2)), image, interpolation, fill)

    return sometimes(probability, augment)
