"""Perspective projections and radial lens distortion."""

from typing import Annotated, Any

import jax
import jax.numpy as jnp

from jaxtrain.annotations import Interval, NonNegativeFloat, Probability
from jaxtrain.augment.draws import apply_with_probability, draw_uniforms
from jaxtrain.augment.geometry import Augmentation
from jaxtrain.augment.options import Fill, Interpolation
from jaxtrain.augment.warp import Matrix, coordinates, sample, warp_given

Distortion = Annotated[float, Interval(least=0, below=0.66)]
"""A distortion below two thirds: corners that move farther can fold the quadrilateral over."""

Vector = tuple[Any, ...]
"""Three numbers, or two: f32[] each, or Python floats."""

_CORNERS = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))


def projection_matrix(corners: jax.Array, height: int, width: int) -> Matrix:
    """Return the matrix for `warp_given` that shows the image in a quadrilateral, from the result to the image.

    Args:
      corners: f32[4, 2], the new positions of the image's corners, as (x, y) in fractions of width and height from the
        upper left corner, in the order upper left, upper right, lower right, lower left. They form a convex shape.
      height: the image's height in pixels.
      width: the image's width in pixels.
    """
    (ax, bx, cx, dx), (ay, by, cy, dy) = (
        [(corners[i, k] - 0.5) * side for i in range(4)] for k, side in ((0, width), (1, height))
    )
    # Heckbert 1989, Fundamentals of texture mapping and image warping, section 2.2.3: the unit square to a
    # quadrilateral. Its adjugate is the inverse up to a factor, with a last row that is positive inside.
    total, right, left = (ax - bx + cx - dx, ay - by + cy - dy), (bx - cx, by - cy), (dx - cx, dy - cy)
    area = _cross(right, left)
    g, h = _cross(total, left) / area, _cross(right, total) / area
    first, second, third = (
        (bx - ax + g * bx, by - ay + g * by, g),
        (dx - ax + h * dx, dy - ay + h * dy, h),
        (ax, ay, 1.0),
    )
    across, down, depth = _normal(second, third), _normal(third, first), _normal(first, second)
    center = depth[2]  # the value at the center of the result; 1 if no corner moved
    # Convert from the unit square to pixels from the center.
    return (
        tuple(width * (p - 0.5 * d) / center for p, d in zip(across, depth, strict=True)),
        tuple(height * (p - 0.5 * d) / center for p, d in zip(down, depth, strict=True)),
        tuple(d / center for d in depth),
    )


def _cross(p: Vector, q: Vector) -> jax.Array:
    """Return the cross product of two vectors in the plane, a number."""
    return p[0] * q[1] - p[1] * q[0]


def _normal(p: Vector, q: Vector) -> tuple[jax.Array, ...]:
    """Return the cross product of two vectors in three dimensions."""
    return p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0]


def projective_given(
    corners: jax.Array, image: jax.Array, interpolation: Interpolation = "bilinear", fill: Fill = 0.0
) -> jax.Array:
    """Return `image[H, W, C]` with its corners moved to `corners` f32[4, 2]; see `projection_matrix`."""
    return warp_given(projection_matrix(corners, *image.shape[:2]), image, interpolation, fill)


def projective(
    distortion: Distortion = 0.3,
    probability: Probability = 0.5,
    interpolation: Interpolation = "bilinear",
    fill: Fill = 0.0,
) -> Augmentation:
    """Move each corner inwards by up to `distortion` of half a side, as torchvision's RandomPerspective does.

    Args:
      distortion: the largest shift of a corner, as a fraction of half the side.
      probability: the probability of applying it.
      interpolation: the resampling method.
      fill: the value outside the image.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> image = jnp.full((5, 5, 1), 9, jnp.uint8)
      >>> warp = jaxtrain.augment.projective(distortion=0.6, probability=1.0, interpolation="nearest")
      >>> print(jax.jit(warp)(jax.random.key(0), image)[..., 0])
      [[9 9 9 9 0]
       [9 9 9 9 0]
       [9 9 9 9 0]
       [9 9 9 9 0]
       [0 0 0 9 9]]
    """

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        corners = jnp.array(_CORNERS, jnp.float32)
        moved = jax.random.uniform(key, (4, 2), jnp.float32, 0, distortion / 2)
        return projective_given(corners + moved * jnp.sign(0.5 - corners), image, interpolation, fill)

    return apply_with_probability(probability, augment)


def lens_given(
    k1: jax.Array, k2: jax.Array, image: jax.Array, interpolation: Interpolation = "bilinear", fill: Fill = 0.0
) -> jax.Array:
    """Return `image[H, W, C]` with radial distortion: the content at radius r comes from r (1 + k1 r^2 + k2 r^4).

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
    """Distort radially with coefficients drawn uniformly from [-k1, k1] and [-k2, k2].

    Args:
      k1: the largest coefficient of r^2.
      k2: the largest coefficient of r^4.
      probability: the probability of applying it.
      interpolation: the resampling method.
      fill: the value outside the image.

    Raises:
      ValueError: the strongest draw would fold the image over: r (1 - k1 r^2 - k2 r^4) must increase up to the corners.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> image = jnp.array([0, 50, 100, 150, 200], jnp.uint8).reshape(1, 5, 1)
      >>> augment = jaxtrain.augment.lens(k1=0.3, k2=0.0)
      >>> jax.jit(augment)(jax.random.key(0), image)[0, :, 0].tolist()
      [18, 52, 100, 148, 182]
    """
    if 3 * k1 + 5 * k2 >= 1:
        raise ValueError(f"k1={k1} and k2={k2} can fold the image over; choose them so that 3 k1 + 5 k2 < 1")

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        first, second = draw_uniforms(key, (-k1, k1), (-k2, k2))
        return lens_given(first, second, image, interpolation, fill)

    return apply_with_probability(probability, augment)
