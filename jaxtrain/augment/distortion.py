"""Views from aside (projections) and through a lens (radial distortion)."""

from typing import Annotated, Any

import jax
import jax.numpy as jnp

from jaxtrain.annotations import Interval, NonNegativeFloat, Probability
from jaxtrain.augment.draws import sometimes, uniforms
from jaxtrain.augment.geometry import Augmentation
from jaxtrain.augment.options import Fill, Interpolation
from jaxtrain.augment.warp import Matrix, coordinates, sample, warp_given

Distortion = Annotated[float, Interval(least=0, below=0.66)]
"""Below two thirds, since corners that move farther can make a quadrilateral that is folded over."""

Numbers = tuple[Any, ...]
"""f32[] each, or Python floats."""

_CORNERS = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))


def projection_matrix(corners: jax.Array, height: int, width: int) -> Matrix:
    """Shows the image in a quadrilateral: from the result to the image, for `warp_given`.

    Args:
      corners: f32[4, 2], where the corners of the image come to lie, as (x, y) in fractions of width and height from
        the upper left corner: upper left, upper right, lower right, lower left. They make a convex shape.
      height: of the image in pixels.
      width: of the image in pixels.
    """
    (ax, bx, cx, dx), (ay, by, cy, dy) = (
        [(corners[i, k] - 0.5) * side for i in range(4)] for k, side in ((0, width), (1, height))
    )
    # Heckbert 1989, Fundamentals of texture mapping and image warping, section 2.2.3: the unit square to a
    # quadrilateral. Its adjugate leads back, with a last row that is positive inside.
    total, right, left = (ax - bx + cx - dx, ay - by + cy - dy), (bx - cx, by - cy), (dx - cx, dy - cy)
    area = _cross(right, left)
    g, h = _cross(total, left) / area, _cross(right, total) / area
    first, second, third = (
        (bx - ax + g * bx, by - ay + g * by, g),
        (dx - ax + h * dx, dy - ay + h * dy, h),
        (ax, ay, 1.0),
    )
    across, down, depth = _normal(second, third), _normal(third, first), _normal(first, second)
    center = depth[2]  # at the center of the result; 1 where nothing moved
    # From the unit square to pixels from the center.
    return (
        tuple(width * (p - 0.5 * d) / center for p, d in zip(across, depth, strict=True)),
        tuple(height * (p - 0.5 * d) / center for p, d in zip(down, depth, strict=True)),
        tuple(d / center for d in depth),
    )


def _cross(p: Numbers, q: Numbers) -> jax.Array:
    return p[0] * q[1] - p[1] * q[0]


def _normal(p: Numbers, q: Numbers) -> tuple[jax.Array, ...]:
    """The cross product in three dimensions."""
    return p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0]


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
        first, second = uniforms(key, (-k1, k1), (-k2, k2))
        return lens_given(first, second, image, interpolation, fill)

    return sometimes(probability, augment)
