"""Start and end positions of fractional max pooling's regions along an axis (Graham 2014, section 2; torch's form).

A draw is uniform in [0, 1): one number for a pseudo-random sequence, or one number per step for a random sequence.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

SequenceKind = Literal["random", "pseudorandom"]
"""Steps of one and two in random order; or the steps of a line of slope alpha on a grid, with a random offset."""
RegionKind = Literal["windows", "overlapping", "disjoint"]
"""Windows of a fixed size at random positions, as in torch and the author's code; or the positions from one boundary to
the next, including it ("overlapping", section 2) or excluding it ("disjoint"), as in TensorFlow."""


@dataclasses.dataclass(frozen=True)
class PoolingIntervals:
    """Regions along an axis.

    Attributes:
      starts: int32[..., P], the first position of each region.
      ends: int32[..., P], one more than the last position of each region.
      longest: the greatest number of positions in a region.
    """

    starts: jax.Array
    ends: jax.Array
    longest: int


def count_regions(size: int, ratio: float) -> int:
    """Return the number of regions along an axis: size / ratio, rounded to the nearest integer.

    This gives the published sizes of the paper's nets: 36 pixels by sqrt(2) six times, 94 by cbrt(2) twelve times.
    """
    return int(size / ratio + 0.5)


def draw_shape(places: int, regions: RegionKind, sequence: SequenceKind) -> tuple[int, ...]:
    """Return the shape of the draw for one axis: `()` or `(steps,)`."""
    return () if sequence == "pseudorandom" else (places - (regions == "windows"),)


def pooling_intervals(
    draw: jax.Array,
    size: int,
    places: int,
    regions: RegionKind = "windows",
    sequence: SequenceKind = "random",
    window: int = 2,
) -> PoolingIntervals:
    """Return the regions along an axis.

    Args:
      draw: f32[..., *draw_shape(...)], uniform in [0, 1).
      size: the number of positions along the axis.
      places: the number of regions.
      regions: the kind of regions.
      sequence: the kind of sequence.
      window: the number of positions in a region, for "windows".

    Raises:
      ValueError: the axis has too few or too many positions for this number of regions.
    """
    if regions == "windows":
        if window + places - 1 > size:
            raise ValueError(
                f"fractional pooling with {places} windows of {window} needs an input of at least "
                f"{window + places - 1} positions, got {size}: use a larger image or a smaller output"
            )
        random = sequence == "random"
        starts = random_sequence(draw, size - window) if random else window_starts(draw, size, places, window)
        return PoolingIntervals(starts, starts + window, window)
    if not places <= size <= 2 * places:
        raise ValueError(
            f"fractional pooling with {places} {regions} regions needs an input of {places} to {2 * places} positions, "
            f"got {size}: change the image size or the output size"
        )
    bounds = random_sequence(draw, size) if sequence == "random" else boundaries(draw, size, places)
    starts, ends = bounds[..., :-1], bounds[..., 1:]
    if regions == "overlapping":
        return PoolingIntervals(starts, jnp.minimum(ends + 1, size), 3)
    return PoolingIntervals(starts, ends, 2)


def random_sequence(draw: jax.Array, total: int) -> jax.Array:
    """Return int32[..., S + 1] from 0 to `total` in S steps, whose lengths differ by at most 1.

    The draws f32[..., S] decide which steps are the longer ones.
    """
    steps = draw.shape[-1]
    if not steps:
        return jnp.zeros((*draw.shape[:-1], 1), jnp.int32)
    length, rest = divmod(total, steps)
    longer = jnp.argsort(draw, axis=-1) < rest
    return _pad(jnp.cumsum(length + longer.astype(jnp.int32), axis=-1), (1, 0), 0)


def boundaries(draw: jax.Array, size: int, places: int) -> jax.Array:
    """Return int32[..., P + 1], ceil(alpha (i + u)) - ceil(alpha u) with alpha = size / places and draw u f32[...].

    The computation is in integers: ceil((i size + size u) / places) equals ceil((i size + ceil(size u)) / places).
    """
    offset = jnp.ceil(size * draw).astype(jnp.int32)[..., None]
    steps = jnp.asarray(np.arange(places + 1) * size, jnp.int32).reshape(*(1,) * draw.ndim, -1)
    return -(-(steps + offset) // places) + (-offset // places)


def window_starts(draw: jax.Array, size: int, places: int, window: int) -> jax.Array:
    """Return int32[..., P], int(alpha (i + u)) - int(alpha u) with alpha = (size - window) / (places - 1).

    The last window ends at the end of the axis. The order of the float32 operations gives the same numbers as torch's
    `fractional_max_pool2d`.
    """
    last = size - window
    if places == 1:
        return jnp.full((*draw.shape, 1), last, jnp.int32)
    alpha = np.float32(size - window) / np.float32(places - 1)
    steps = jnp.arange(places - 1, dtype=jnp.float32).reshape(*(1,) * draw.ndim, -1)
    u = draw.astype(jnp.float32)[..., None]
    starts = ((steps + u) * alpha).astype(jnp.int32) - (u * alpha).astype(jnp.int32)
    return _pad(starts, (0, 1), last)


def _pad(x: jax.Array, widths: tuple[int, int], value: int) -> jax.Array:
    """Pad the last axis with `value`; unlike concatenation with a constant, this keeps the sharding of `x`."""
    return jnp.pad(x, [*[(0, 0)] * (x.ndim - 1), widths], constant_values=value)
