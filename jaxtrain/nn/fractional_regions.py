"""Where the regions of fractional max pooling begin and end along an axis (Graham 2014, section 2; torch's form).

A draw is uniform in [0, 1): one number for a pseudo-random sequence, one for each step of a random one.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

Sequence = Literal["random", "pseudorandom"]
"""Steps of one and two in any order; or those of a line of slope alpha on a grid, from a random place on."""
Regions = Literal["windows", "overlapping", "disjoint"]
"""Windows of a fixed size at random places, as in torch and the author's code; or what lies from one boundary to the
next, with it (section 2's overlapping regions) or without it, as in TensorFlow."""


@dataclasses.dataclass(frozen=True)
class Intervals:
    """Regions along an axis.

    Attributes:
      starts: int32[..., P], the first position of each.
      ends: int32[..., P], the position behind its last.
      longest: how many positions one has at the most.
    """

    starts: jax.Array
    ends: jax.Array
    longest: int


def places_of(size: int, ratio: float) -> int:
    """How many regions an axis of `size` is divided into: the nearest to size / ratio.

    With it the nets of the paper come out as published: 36 pixels by sqrt(2) six times, 94 by cbrt(2) twelve times.
    """
    return int(size / ratio + 0.5)


def draws_of(places: int, regions: Regions, sequence: Sequence) -> tuple[int, ...]:
    """The shape of the draw for one axis: `()` or `(steps,)`."""
    return () if sequence == "pseudorandom" else (places - (regions == "windows"),)


def intervals(
    draw: jax.Array,
    size: int,
    places: int,
    regions: Regions = "windows",
    sequence: Sequence = "random",
    window: int = 2,
) -> Intervals:
    """The regions of an axis.

    Args:
      draw: f32[..., *draws_of(...)], uniform in [0, 1).
      size: of the axis.
      places: how many regions.
      regions: of which kind.
      sequence: of which kind.
      window: positions of a region, for "windows".

    Raises:
      ValueError: where so many regions do not fit.
    """
    if regions == "windows":
        if window + places - 1 > size:
            raise ValueError(
                f"fractional pooling needs {window + places - 1} positions for {places} windows of {window} at "
                f"different places, and has {size}"
            )
        random = sequence == "random"
        starts = random_sequence(draw, size - window) if random else window_starts(draw, size, places, window)
        return Intervals(starts, starts + window, window)
    if not places <= size <= 2 * places:
        raise ValueError(
            f"fractional pooling to {places} regions of one or two takes {places} to {2 * places} positions, and here "
            f"are {size}"
        )
    bounds = random_sequence(draw, size) if sequence == "random" else boundaries(draw, size, places)
    starts, ends = bounds[..., :-1], bounds[..., 1:]
    if regions == "overlapping":
        return Intervals(starts, jnp.minimum(ends + 1, size), 3)
    return Intervals(starts, ends, 2)


def random_sequence(draw: jax.Array, total: int) -> jax.Array:
    """int32[..., S + 1] from 0 to `total` in S steps of two neighboring lengths, ordered by the draws f32[..., S]."""
    steps = draw.shape[-1]
    if not steps:
        return jnp.zeros((*draw.shape[:-1], 1), jnp.int32)
    length, rest = divmod(total, steps)
    longer = jnp.argsort(draw, axis=-1) < rest
    return _padded(jnp.cumsum(length + longer.astype(jnp.int32), axis=-1), (1, 0), 0)


def boundaries(draw: jax.Array, size: int, places: int) -> jax.Array:
    """int32[..., P + 1], ceil(alpha (i + u)) - ceil(alpha u) with alpha = size / places and u the draw f32[...].

    In whole numbers, since ceil((i size + size u) / places) is ceil((i size + ceil(size u)) / places).
    """
    offset = jnp.ceil(size * draw).astype(jnp.int32)[..., None]
    steps = jnp.asarray(np.arange(places + 1) * size, jnp.int32).reshape(*(1,) * draw.ndim, -1)
    return -(-(steps + offset) // places) + (-offset // places)


def window_starts(draw: jax.Array, size: int, places: int, window: int) -> jax.Array:
    """int32[..., P]: int(alpha (i + u)) - int(alpha u), alpha = (size - window) / (places - 1); the last at the end.

    In float32 in this order, so that the numbers are those of torch's `fractional_max_pool2d`.
    """
    last = size - window
    if places == 1:
        return jnp.full((*draw.shape, 1), last, jnp.int32)
    alpha = np.float32(size - window) / np.float32(places - 1)
    steps = jnp.arange(places - 1, dtype=jnp.float32).reshape(*(1,) * draw.ndim, -1)
    u = draw.astype(jnp.float32)[..., None]
    starts = ((steps + u) * alpha).astype(jnp.int32) - (u * alpha).astype(jnp.int32)
    return _padded(starts, (0, 1), last)


def _padded(x: jax.Array, widths: tuple[int, int], value: int) -> jax.Array:
    """With `value` before and behind along the last axis; unlike a constant beside it, it is divided as `x` is."""
    return jnp.pad(x, [*[(0, 0)] * (x.ndim - 1), widths], constant_values=value)
