"""Translation, rotation, scaling, stretching and shearing, alone or together, always as one resampling.

The order is: scale and stretch, shear, rotate, translate, all about the image center. The order and the signs of the
shears are torchvision's. A positive angle rotates counter-clockwise, as in Pillow.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxtrain.annotations import Probability
from jaxtrain.augment.draws import apply_with_probability, draw_uniforms, log_bounds
from jaxtrain.augment.geometry import Augmentation
from jaxtrain.augment.options import Angles, Fill, Interpolation, Ratios, Shifts, Slants, check_order, symmetric_range
from jaxtrain.augment.warp import Matrix, warp_given


class Affine(NamedTuple):
    """The parameters of an affine transformation: numbers, or f32[] each.

    Attributes:
      x: shift to the right, as a fraction of the width.
      y: shift down, as a fraction of the height.
      degrees: rotation angle, counter-clockwise.
      scale: factor of the size; 2 makes everything twice as large.
      aspect: width over height that a square gets, at the same area.
      shear_x: slant of vertical lines in degrees, their upper end to the right.
      shear_y: slant of horizontal lines in degrees, their left end down.
    """

    x: jax.typing.ArrayLike = 0.0
    y: jax.typing.ArrayLike = 0.0
    degrees: jax.typing.ArrayLike = 0.0
    scale: jax.typing.ArrayLike = 1.0
    aspect: jax.typing.ArrayLike = 1.0
    shear_x: jax.typing.ArrayLike = 0.0
    shear_y: jax.typing.ArrayLike = 0.0


def affine_matrix(draw: Affine, height: int, width: int) -> Matrix:
    """Return the matrix for `warp_given`, from a point in the result to its source in the image."""
    x, y, degrees, scale, aspect, shear_x, shear_y = (jnp.asarray(v, jnp.float32) for v in draw)
    angle, across, down = jnp.deg2rad(degrees), jnp.tan(jnp.deg2rad(shear_x)), jnp.tan(jnp.deg2rad(shear_y))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    root = jnp.sqrt(aspect)
    # Inverse rotation, then inverse shears, then division by the factor of each axis.
    shears: tuple[tuple[Any, Any], ...] = ((1 + across * down, across), (down, 1.0))
    rows: list[tuple[jax.Array, ...]] = []
    for (first, second), factor in zip(shears, (scale * root, scale / root), strict=True):
        by_x, by_y = (first * cos + second * sin) / factor, (second * cos - first * sin) / factor
        rows.append((by_x, by_y, -(by_x * x * width + by_y * y * height)))
    return *rows, (0.0, 0.0, 1.0)


def affine_given(
    draw: Affine, image: jax.Array, interpolation: Interpolation = "bilinear", fill: Fill = 0.0
) -> jax.Array:
    """Return `image[H, W, C]` transformed by `draw`."""
    return warp_given(affine_matrix(draw, *image.shape[:2]), image, interpolation, fill)


def translate(
    x: Shifts = 0.125,
    y: Shifts = 0.125,
    probability: Probability = 1.0,
    interpolation: Interpolation = "bilinear",
    fill: Fill = 0.0,
) -> Augmentation:
    """Translate by uniformly drawn fractions of width and height.

    Args:
      x: bounds of the shift to the right, as fractions of the width.
      y: bounds of the shift down, as fractions of the height.
      probability: the probability of applying it.
      interpolation: the resampling method.
      fill: the value outside the image.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> image = jnp.array([1, 2, 3, 4], jnp.uint8).reshape(1, 4, 1)
      >>> augment = jaxtrain.augment.translate(x=(0.5, 0.5), y=0.0)
      >>> jax.jit(augment)(jax.random.key(0), image)[0, :, 0].tolist()
      [0, 0, 1, 2]
    """
    return affine(0.0, x, y, (1.0, 1.0), (1.0, 1.0), 0.0, 0.0, probability, interpolation, fill)


def rotate(
    degrees: Angles = 15.0, probability: Probability = 1.0, interpolation: Interpolation = "bilinear", fill: Fill = 0.0
) -> Augmentation:
    """Rotate counter-clockwise by a uniformly drawn angle.

    Args:
      degrees: bounds of the angle.
      probability: the probability of applying it.
      interpolation: the resampling method.
      fill: the value outside the image.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> image = jnp.array([[1, 2], [3, 4]], jnp.uint8)[..., None]
      >>> rotate = jaxtrain.augment.rotate(degrees=(90.0, 90.0), interpolation="nearest")
      >>> jax.jit(rotate)(jax.random.key(0), image)[..., 0].tolist()
      [[2, 4], [1, 3]]
    """
    return affine(degrees, 0.0, 0.0, (1.0, 1.0), (1.0, 1.0), 0.0, 0.0, probability, interpolation, fill)


def scale(
    factors: Ratios = (0.8, 1.25),
    probability: Probability = 1.0,
    interpolation: Interpolation = "bilinear",
    fill: Fill = 0.0,
) -> Augmentation:
    """Zoom by a factor drawn uniformly in its logarithm.

    Args:
      factors: bounds of the factor; above 1 enlarges the content.
      probability: the probability of applying it.
      interpolation: the resampling method.
      fill: the value outside the image.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> image = jnp.array([1, 2, 3, 4], jnp.uint8).reshape(1, 4, 1)
      >>> augment = jaxtrain.augment.scale((2.0, 2.0), interpolation="nearest")
      >>> jax.jit(augment)(jax.random.key(0), image)[0, :, 0].tolist()
      [2, 2, 3, 3]
    """
    return affine(0.0, 0.0, 0.0, factors, (1.0, 1.0), 0.0, 0.0, probability, interpolation, fill)


def stretch(
    aspects: Ratios = (0.75, 4 / 3),
    probability: Probability = 1.0,
    interpolation: Interpolation = "bilinear",
    fill: Fill = 0.0,
) -> Augmentation:
    """Change width over height by a factor drawn uniformly in its logarithm, at the same area.

    Args:
      aspects: bounds of the factor; above 1 makes the content wider.
      probability: the probability of applying it.
      interpolation: the resampling method.
      fill: the value outside the image.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> image = jnp.array([1, 2, 3, 4], jnp.uint8).reshape(1, 4, 1)
      >>> augment = jaxtrain.augment.stretch((4.0, 4.0), interpolation="nearest")
      >>> jax.jit(augment)(jax.random.key(0), image)[0, :, 0].tolist()
      [2, 2, 3, 3]
    """
    return affine(0.0, 0.0, 0.0, (1.0, 1.0), aspects, 0.0, 0.0, probability, interpolation, fill)


def shear(
    x: Slants = 10.0,
    y: Slants = 10.0,
    probability: Probability = 1.0,
    interpolation: Interpolation = "bilinear",
    fill: Fill = 0.0,
) -> Augmentation:
    """Slant vertical and horizontal lines by uniformly drawn angles.

    Args:
      x: bounds of the slant of vertical lines in degrees.
      y: bounds of the slant of horizontal lines in degrees.
      probability: the probability of applying it.
      interpolation: the resampling method.
      fill: the value outside the image.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> image = jnp.array([[0, 9, 0], [0, 9, 0], [0, 9, 0]], jnp.uint8)[..., None]
      >>> shear = jaxtrain.augment.shear(x=(45.0, 45.0), y=0.0, interpolation="nearest")
      >>> jax.jit(shear)(jax.random.key(0), image)[..., 0].tolist()
      [[0, 0, 9], [0, 9, 0], [9, 0, 0]]
    """
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
    """Rotate, translate, zoom, stretch and shear in one resampling, each by its own draw.

    Args:
      degrees: bounds of the angle; see `rotate`.
      x: bounds of the shift to the right; see `translate`.
      y: bounds of the shift down; see `translate`.
      factors: bounds of the zoom; see `scale`.
      aspects: bounds of the change of width over height; see `stretch`.
      shear_x: bounds of the slant of vertical lines; see `shear`.
      shear_y: bounds of the slant of horizontal lines; see `shear`.
      probability: the probability of applying it.
      interpolation: the resampling method.
      fill: the value outside the image.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> image = jnp.ones((4, 4, 1))
      >>> augment = jaxtrain.augment.affine()
      >>> print(jax.jit(augment)(jax.random.key(0), image)[..., 0].round(1))  # the image leaves its corners
      [[1.  1.  1.  0.1]
       [1.  1.  1.  0.3]
       [1.  1.  1.  0.5]
       [0.5 0.6 0.7 0.5]]
    """
    ranges = (  # in the order of the fields
        symmetric_range(x, "x"),
        symmetric_range(y, "y"),
        symmetric_range(degrees, "degrees"),
        log_bounds(check_order(factors, "factors")),
        log_bounds(check_order(aspects, "aspects")),
        symmetric_range(shear_x, "shear_x"),
        symmetric_range(shear_y, "shear_y"),
    )

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        draw = Affine(*draw_uniforms(key, *ranges))
        draw = draw._replace(scale=jnp.exp(draw.scale), aspect=jnp.exp(draw.aspect))
        return affine_given(draw, image, interpolation, fill)

    return apply_with_probability(probability, augment)
