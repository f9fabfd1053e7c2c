"""One operation of a policy, drawn for each image: all colors are computed and one taken, and one resampling.

Mapped over a batch, `lax.switch` would run every branch, five resamplings among them, whose gathers cost most. So the
geometric operations are one matrix, the identity where a color operation is drawn, and the color operations elementwise
arithmetic that XLA fuses; equalize alone needs a histogram and a lookup.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxtrain.augment.color import brightness_given, contrast_given, saturation_given
from jaxtrain.augment.magnitudes import Space
from jaxtrain.augment.options import Fill, Interpolation
from jaxtrain.augment.sharpness import sharpen_given
from jaxtrain.augment.tones import autocontrast_given, equalize_given, invert_given, posterize_given, solarize_given
from jaxtrain.augment.warp import warp_given

GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
COLORS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "brightness": lambda magnitude, image: brightness_given(1 + magnitude, image),
    "color": lambda magnitude, image: saturation_given(1 + magnitude, image),
    "contrast": lambda magnitude, image: contrast_given(1 + magnitude, image),
    "sharpness": lambda magnitude, image: sharpen_given(1 + magnitude, image),
    "posterize": lambda magnitude, image: posterize_given(jnp.clip(magnitude, 0, 8).astype(jnp.int32), image),
    "solarize": solarize_given,
    "autocontrast": lambda _, image: autocontrast_given(image),
    "equalize": lambda _, image: equalize_given(image),
    "invert": lambda _, image: invert_given(image),
}


class Operation(NamedTuple):
    """`which` int32[...], an index into the names of a policy, and the `magnitude` f32[...] with a sign."""

    which: jax.Array
    magnitude: jax.Array


def looked_up(space: Space, which: jax.Array, place: jax.Array, negative: jax.Array) -> Operation:
    """The operations `which` int32[...] at the bins `place` int32[...], negated where `negative` and signed."""
    magnitude = jnp.array(space.magnitudes)[which, place]
    return Operation(which, jnp.where(negative & jnp.array(space.signed)[which], -magnitude, magnitude))


def operation_given(
    names: tuple[str, ...], operation: Operation, image: jax.Array, interpolation: Interpolation, fill: Fill
) -> jax.Array:
    """`image[H, W, C]` after one operation, of scalars, out of `names`."""
    which, magnitude = operation
    result = image
    for place, name in enumerate(names):
        if name in COLORS:
            result = jnp.where(which == place, COLORS[name](magnitude, image), result)
    return warp_given(_matrix(names, operation, *image.shape[:2]), result, interpolation, fill)


def _matrix(names: tuple[str, ...], operation: Operation, height: int, width: int) -> jax.Array:
    """From the result to the image. Shears keep the upper left corner, rotations (counter-clockwise) the center."""
    amounts = {n: jnp.where(operation.which == names.index(n), operation.magnitude, 0) for n in GEOMETRIC}
    across, down = amounts["shear_x"], amounts["shear_y"]
    x, y = jnp.trunc(amounts["translate_x"]), jnp.trunc(amounts["translate_y"])
    angle = jnp.deg2rad(amounts["rotate"])
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    first = jnp.stack([cos, across - sin, across * (height / 2) - x])
    second = jnp.stack([down + sin, cos, down * (width / 2) - y])
    return jnp.stack([first, second, jnp.array([0, 0, 1], jnp.float32)])


def operations_given(
    names: tuple[str, ...], operations: Operation, image: jax.Array, interpolation: Interpolation, fill: Fill
) -> jax.Array:
    """`image[H, W, C]` after `operations`, of f32[n] and int32[n], one after the other."""

    def step(image: jax.Array, operation: Operation) -> tuple[jax.Array, None]:
        return operation_given(names, operation, image, interpolation, fill), None

    return jax.lax.scan(step, image, operations)[0]
