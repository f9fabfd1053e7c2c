"""Fractional max pooling (Graham 2014, arXiv:1412.6071): maxima of random regions, with a ratio 1 < alpha < 2."""

import math
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxtrain.annotations import Interval
from jaxtrain.nn.fractional_regions import (
    PoolingIntervals,
    RegionKind,
    SequenceKind,
    count_regions,
    draw_shape,
    pooling_intervals,
)
from jaxtrain.random import draw_per_example

Ratio = Annotated[float, Interval(above=1, below=2)]
"""The factor by which height and width shrink."""
Shared = Literal["batch", "example", "channel"]
"""The scope of one draw of regions: the whole batch (the author's code, TensorFlow), all channels of an example, or one
channel of an example (torch)."""


def fractional_max_pool_given(rows: PoolingIntervals, columns: PoolingIntervals, x: jax.Array) -> jax.Array:
    """Return the maxima `[N, P, Q, C]` of given regions.

    If a region contains a NaN, its maximum is NaN. Among equal maxima the first gets the gradient, as in torch.

    Args:
      rows: P intervals of the height, `[1 or N, 1 or C, P]`.
      columns: Q intervals of the width, `[1 or N, 1 or C, Q]`.
      x: `[N, H, W, C]`.

    Example:
      >>> import jax.numpy as jnp, jaxtrain
      >>> draw = jnp.full((1, 1), 0.5)
      >>> regions = jaxtrain.nn.fractional_regions.pooling_intervals(draw, 6, 4, "windows", "pseudorandom")
      >>> regions.starts.tolist()
      [[[0, 2, 3, 4]]]
      >>> x = jnp.arange(36.0).reshape(1, 6, 6, 1)
      >>> jaxtrain.nn.fractional_max_pool_given(regions, regions, x)[0, 0, :, 0].tolist()
      [7.0, 9.0, 10.0, 11.0]
    """
    return _pool_axis(_pool_axis(x, columns, 2), rows, 1)  # width first, so that the first maximum is in the first row


def fractional_max_pool(
    key: jax.Array,
    x: jax.Array,
    places: tuple[int, int],
    regions: RegionKind = "windows",
    sequence: SequenceKind = "random",
    shared: Shared = "batch",
    window: int = 2,
) -> jax.Array:
    """Return `fractional_max_pool_given` with regions drawn from `key`, `[N, P, Q, C]`.

    Args:
      key: the key for the batch.
      x: `[N, H, W, C]`.
      places: the output height P and width Q.
      regions: the kind of regions; see `fractional_regions.Regions`.
      sequence: the kind of sequence; see `fractional_regions.Sequence`.
      shared: the scope of one draw: "batch", "example" or "channel".
      window: the side of "windows".

    Raises:
      ValueError: the input has too few or too many positions for this number of regions.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> x = jnp.arange(36.0).reshape(1, 6, 6, 1)
      >>> jaxtrain.nn.fractional_max_pool(jax.random.key(0), x, places=(4, 4))[0, 0, :, 0].tolist()
      [7.0, 9.0, 10.0, 11.0]
    """
    channels = x.shape[3] if shared == "channel" else 1

    def draw_intervals(key: jax.Array, size: int, count: int) -> PoolingIntervals:
        shape = (channels, *draw_shape(count, regions, sequence))
        if shared == "batch":
            draw = jax.random.uniform(key, (1, *shape))
        else:
            draw = draw_per_example(lambda key: jax.random.uniform(key, shape), key, x)
        return pooling_intervals(draw, size, count, regions, sequence, window)

    row_key, column_key = jax.random.split(key)
    rows = draw_intervals(row_key, x.shape[1], places[0])
    columns = draw_intervals(column_key, x.shape[2], places[1])
    return fractional_max_pool_given(rows, columns, x)


class FractionalMaxPool(nn.Module):
    """Fractional max pooling by a ratio; it draws from the random stream "dropout".

    In evaluation it draws too if that stream is given. The paper evaluates in this way, with an average over many draws
    (`marginalize`). Without the stream it uses the pseudo-random regions of the draw u = 1/2.

    Attributes:
      train: whether this is training, which requires the stream.
      ratio: the factor by which height and width shrink; the output size is rounded to the nearest integer.
      regions: the kind of regions; see `fractional_regions.Regions`.
      sequence: the kind of sequence; see `fractional_regions.Sequence`.
      shared: the scope of one draw: "batch", "example" or "channel".
      window: the side of "windows".

    Example:
      >>> import jax.numpy as jnp, jaxtrain
      >>> jaxtrain.nn.FractionalMaxPool(train=False).apply({}, jnp.ones((1, 36, 36, 2))).shape
      (1, 25, 25, 2)
    """

    train: bool
    ratio: float = math.sqrt(2)
    regions: RegionKind = "windows"
    sequence: SequenceKind = "random"
    shared: Shared = "batch"
    window: int = 2

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the maxima `[N, H / ratio, W / ratio, C]` for `x[N, H, W, C]`."""
        if not 1 < self.ratio < 2:
            raise ValueError(f"the ratio of fractional pooling must be between 1 and 2 (exclusive), got {self.ratio}")
        h, w = (count_regions(size, self.ratio) for size in x.shape[1:3])
        if self.train or self.has_rng("dropout"):
            key = self.make_rng("dropout")
            return fractional_max_pool(key, x, (h, w), self.regions, self.sequence, self.shared, self.window)
        half = jnp.full((1, 1), 0.5)
        rows, columns = (
            pooling_intervals(half, size, count, self.regions, "pseudorandom", self.window)
            for size, count in zip(x.shape[1:3], (h, w), strict=True)
        )
        return fractional_max_pool_given(rows, columns, x)


def _pool_axis(x: jax.Array, regions: PoolingIntervals, axis: int) -> jax.Array:
    """Return the maxima along an axis, by one gather per offset in a region; past its end the last position repeats."""
    maxima = _take(x, regions.starts, axis)
    for offset in range(1, regions.longest):
        value = _take(x, jnp.minimum(regions.starts + offset, regions.ends - 1), axis)
        maxima = jnp.where((value > maxima) | jnp.isnan(value), value, maxima)
    return maxima


def _take(x: jax.Array, index: jax.Array, axis: int) -> jax.Array:
    """Return `x[N, H, W, C]` at `index[1 or N, 1 or C, P]` along an axis."""
    if index.shape[:2] == (1, 1):
        return jnp.take(x, index[0, 0], axis=axis, mode="clip")
    index = index.swapaxes(1, 2)  # [N, P, C]
    return jnp.take_along_axis(x, jnp.expand_dims(index, 3 - axis), axis=axis, mode="clip")
