"""One drawn policy operation for each image, without computing all of them.

Mapped over a batch, `lax.switch` runs every branch. Instead, all geometric operations share one matrix and one
resampling; the matrix is the identity if the operation is a color. All operations on single values share one table of
256 entries for each channel, computed from one histogram. Only color and sharpness, which blend an image with another
one, are computed for every image. For 128 images of 32x32, this takes 13 ms on a CPU. The switch takes 24 ms, or 43 ms
with bilinear resampling.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.augment.color import brightness_given, contrast_about, saturation_given
from jaxtrain.augment.histograms import apply_table, channel_means, equalize_table, histogram, level_range
from jaxtrain.augment.levels import cast_like, luma, nearest_levels, white_value
from jaxtrain.augment.magnitudes import PolicySpace
from jaxtrain.augment.options import Fill, Interpolation
from jaxtrain.augment.sharpness import sharpen_given
from jaxtrain.augment.tones import invert_given, posterize_given, solarize_given, stretch_levels
from jaxtrain.augment.warp import Matrix, warp_given

GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")


class PolicyOperation(NamedTuple):
    """Operations of a policy with their magnitudes.

    Attributes:
      which: int32[...], indices into the names of the policy.
      magnitude: f32[...], with sign.
    """

    which: jax.Array
    magnitude: jax.Array


def select_operations(
    space: PolicySpace, which: jax.Array, bin_index: jax.Array, negative: jax.Array
) -> PolicyOperation:
    """Return the operations `which` int32[...] with the magnitudes of the bins `bin_index` int32[...].

    The magnitude is negated if `negative` is true and the operation is signed.
    """
    bins = space.magnitudes.shape[1]
    magnitude = take_by_comparison(space.magnitudes.reshape(-1), which * bins + bin_index)
    return PolicyOperation(
        which,
        jnp.where(negative & (take_by_comparison(space.signed.astype(np.int32), which) > 0), -magnitude, magnitude),
    )


def take_by_comparison(table: np.ndarray, index: jax.Array) -> jax.Array:
    """Return `table[index]` of a short `table` [K] for each of `index` int32[...], by comparison with all indices.

    On an explicit mesh, JAX cannot index a replicated array by a sharded one.
    """
    indices = jnp.arange(len(table), dtype=jnp.int32).reshape((1,) * index.ndim + (-1,))
    return jnp.where(index[..., None] == indices, jnp.asarray(table).reshape(indices.shape), 0).sum(axis=-1)


def operation_given(
    names: tuple[str, ...], operation: PolicyOperation, image: jax.Array, interpolation: Interpolation, fill: Fill
) -> jax.Array:
    """Apply one operation, of scalars, out of `names` to `image` uint8[H, W, C]."""
    which, magnitude = operation
    result = apply_table(_table(names, operation, histogram(image)), image)
    mixtures = {"color": saturation_given, "sharpness": sharpen_given}
    for name, mix in mixtures.items():
        if name in names:
            result = jnp.where(which == names.index(name), mix(1 + magnitude, image), result)
    return warp_given(_matrix(names, operation, *image.shape[:2]), result, interpolation, fill)


def _table(names: tuple[str, ...], operation: PolicyOperation, counts: jax.Array) -> jax.Array:
    """Return uint8[C, 256], the result for each level of an image with the histogram `counts`."""
    which, magnitude = operation
    channels = counts.shape[0]
    every_level = jnp.arange(256, dtype=jnp.uint8).reshape(1, 256, 1)
    ramp = jnp.broadcast_to(every_level, (1, 256, channels))  # every level, as an image of one row
    tables = {
        "brightness": brightness_given(1 + magnitude, ramp),
        "contrast": contrast_about(luma(channel_means(counts)), 1 + magnitude, ramp),
        "posterize": posterize_given(jnp.clip(magnitude, 0, 8).astype(jnp.int32), ramp),
        "solarize": solarize_given(magnitude, ramp),
        "autocontrast": stretch_levels(*level_range(counts), ramp),
        "equalize": equalize_table(counts).T.reshape(1, 256, channels).astype(jnp.uint8),
        "invert": invert_given(ramp),
    }
    result = ramp
    for name, table in tables.items():
        if name in names:
            result = jnp.where(which == names.index(name), table, result)
    return result[0].T


def _matrix(names: tuple[str, ...], operation: PolicyOperation, height: int, width: int) -> Matrix:
    """Return the matrix from the result to the image.

    Shears keep the upper left corner fixed. Rotations are counter-clockwise and keep the center fixed.
    """
    amounts = {n: jnp.where(operation.which == names.index(n), operation.magnitude, 0) for n in GEOMETRIC}
    across, down = amounts["shear_x"], amounts["shear_y"]
    x, y = jnp.trunc(amounts["translate_x"]), jnp.trunc(amounts["translate_y"])
    angle = jnp.deg2rad(amounts["rotate"])
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return (cos, across - sin, across * (height / 2) - x), (down + sin, cos, down * (width / 2) - y), (0.0, 0.0, 1.0)


def operations_given(
    names: tuple[str, ...], operations: PolicyOperation, image: jax.Array, interpolation: Interpolation, fill: Fill
) -> jax.Array:
    """Apply `operations`, of int32[n] and f32[n], in sequence to `image[H, W, C]`.

    The operations are defined for 256 levels, so floats are first rounded to these.
    """

    def step(image: jax.Array, operation: PolicyOperation) -> tuple[jax.Array, None]:
        return operation_given(names, operation, image, interpolation, fill), None

    result = jax.lax.scan(step, nearest_levels(image).astype(jnp.uint8), operations)[0]
    return cast_like(result.astype(jnp.float32) * (white_value(image) / 255), image)
