"""Translation, rotation, scaling, stretching and shearing, alone or together, always as one resampling.

The image is first scaled and stretched, then sheared, rotated and moved, all about its center. The order and the signs
of shears are torchvision's; a positive angle turns counter-clockwise, as in Pillow.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxtrain.annotations import Probability
from jaxtrain.augment.draws import logarithms, sometimes, uniforms
from jaxtrain.augment.geometry import Augmentation
from jaxtrain.augment.options import Angles, Fill, Interpolation, Ratios, Shifts, Slants, both_ways, ordered
from jaxtrain.augment.warp import Matrix, warp_given


class Affine(NamedTuple):
    """What is done to an image: numbers, or f32[] each.

    Attributes:
      x: shift to the right, as a fraction of the width.
      y: shift down, as a fraction of the height.
      degrees: turn, counter-clockwise.
      scale: 2 makes everything twice as large.
      aspect: width over height of what was a square, at the same area.
      shear_x: degrees by which vertical lines are slanted, their upper end to the right.
      shear_y: degrees by which horizontal lines are slanted, their left end down.
    """

    x: jax.typing.ArrayLike = 0.0
    y: jax.typing.ArrayLike = 0.0
    degrees: jax.typing.ArrayLike = 0.0
    scale: jax.typing.ArrayLike = 1.0
    aspect: jax.typing.ArrayLike = 1.0
    shear_x: jax.typing.ArrayLike = 0.0
    shear_y: jax.typing.ArrayLike = 0.0


def affine_matrix(draw: Affine, height: int, width: int) -> Matrix:
    """From a place in the result to the place in the image, for `warp_given`."""
    x, y, degrees, scale, aspect, shear_x, shear_y = (jnp.asarray(v, jnp.float32) for v in draw)
    angle, across, down = jnp.deg2rad(degrees), jnp.tan(jnp.deg2rad(shear_x)), jnp.tan(jnp.deg2rad(shear_y))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    root = jnp.sqrt(aspect)
    # The inverse of the shears after the rotation, divided by what each axis was multiplied with.
    shears: tuple[tuple[Any, Any], ...] = ((1 + across * down, across), (down, 1.0))
    rows: list[tuple[jax.Array, ...]] = []
    for (first, second), factor in zip(shears, (scale * root, scale / root), strict=True):
        by_x, by_y = (first * cos + second * sin) / factor, (second * cos - first * sin) / factor
        rows.append((by_x, by_y, -(by_x * x * width + by_y * y * height)))
    return *rows, (0.0, 0.0, 1.0)


def affine_given(
    draw: Affine, image: jax.Array, interpolation: Interpolation = "bilinear", fill: Fill = 0.0
) -> jax.Array:
    """`image[H, W, C]` transformed by `draw`."""
    return warp_given(affine_matrix(draw, *image.shape[:2]), image, interpolation, fill)


def translate(
    x: Shifts = 0.125,
    y: Shifts = 0.125,
    probability: Probability = 1.0,
    interpolation: Interpolation = "bilinear",
    fill: Fill = 0.0,
) -> Augmentation:
    """Moves by uniformly drawn fractions of width and height."""
    return affine(0.0, x, y, (1.0, 1.0), (1.0, 1.0), 0.0, 0.0, probability, interpolation, fill)


def rotate(
    degrees: Angles = 15.0, probability: Probability = 1.0, interpolation: Interpolation = "bilinear", fill: Fill = 0.0
) -> Augmentation:
    """Turns by a uniformly drawn angle."""
    return affine(degrees, 0.0, 0.0, (1.0, 1.0), (1.0, 1.0), 0.0, 0.0, probability, interpolation, fill)


def scale(
    factors: Ratios = (0.8, 1.25),
    probability: Probability = 1.0,
    interpolation: Interpolation = "bilinear",
    fill: Fill = 0.0,
) -> Augmentation:
    """Zooms by a factor drawn uniformly in its logarithm; more than 1 enlarges."""
    return affine(0.0, 0.0, 0.0, factors, (1.0, 1.0), 0.0, 0.0, probability, interpolation, fill)


def stretch(
    aspects: Ratios = (0.75, 4 / 3),
    probability: Probability = 1.0,
    interpolation: Interpolation = "bilinear",
    fill: Fill = 0.0,
) -> Augmentation:
    """Changes width over height by a factor drawn uniformly in its logarithm; the area stays."""
    return affine(0.0, 0.0, 0.0, (1.0, 1.0), aspects, 0.0, 0.0, probability, interpolation, fill)


def shear(
    x: Slants = 10.0,
    y: Slants = 10.0,
    probability: Probability = 1.0,
    interpolation: Interpolation = "bilinear",
    fill: Fill = 0.0,
) -> Augmentation:
    """Slants vertical lines by `x` degrees and horizontal ones by `y`, both drawn uniformly."""
    return affine(0.0, 0.0, 0.0, (1.0, 1.0), (1.0, 1.0), x, y, probability, interpolation, fill)


def affine(
    degrees: Angles = 15.0,
    x: Shifts = 0.1,
    y: Shifts = 0.1,
    factors: Ratios = (0.8, 1.25),
    aspects: Ratios = (0.75, 4 / 3),
    shear_x: Slants = 10.0,
    shear_y: Slants = 10.0,
    probability: Probability = 1.0,
    interpolation: Interpolation = "bilinear",
    fill: Fill = 0.0,
) -> Augmentation:
    """Turns, moves, zooms, stretches and shears at once, each by a draw of its own, and resamples once."""
    ranges = (  # in the order of the fields
        both_ways(x, "x"),
        both_ways(y, "y"),
        both_ways(degrees, "degrees"),
        logarithms(ordered(factors, "factors")),
        logarithms(ordered(aspects, "aspects")),
        both_ways(shear_x, "shear_x"),
        both_ways(shear_y, "shear_y"),
    )

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        draw = Affine(*uniforms(key, *ranges))
        draw = draw._replace(scale=jnp.exp(draw.scale), aspect=jnp.exp(draw.aspect))
        return affine_given(draw, image, interpolation, fill)

    return sometimes(probability, augment)
