"""Fractional max pooling (Graham 2014, arXiv:1412.6071): maxima of regions drawn at random, fewer by 1 < alpha < 2."""

import math
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxtrain.annotations import Interval
from jaxtrain.nn.fractional_regions import Intervals, Regions, Sequence, draws_of, intervals, places_of
from jaxtrain.random import draw_by_example

Ratio = Annotated[float, Interval(above=1, below=2)]
"""By which the sides shrink."""
Shared = Literal["batch", "example", "channel"]
"""By what one draw is shared: the whole batch (the author's code, TensorFlow), all channels of an example, or nothing
but the places of one channel (torch)."""


def fractional_max_pool_given(rows: Intervals, columns: Intervals, x: jax.Array) -> jax.Array:
    """The maxima of the regions that some rows and columns make.

    A NaN in a region is its maximum, and of equal ones the first has the gradient, as in torch.

    Args:
      rows: P regions of the height, `[1 or N, 1 or C, P]`.
      columns: Q regions of the width, the same.
      x: `[N, H, W, C]`.

    Returns:
      `[N, P, Q, C]`.
    """
    return _maxima(_maxima(x, columns, 2), rows, 1)  # the width first: then the first of equal ones is in the first row


def fractional_max_pool(
    key: jax.Array,
    x: jax.Array,
    places: tuple[int, int],
    regions: Regions = "windows",
    sequence: Sequence = "random",
    shared: Shared = "batch",
    window: int = 2,
) -> jax.Array:
    """`fractional_max_pool_given` with regions that `key` draws.

    Args:
      key: of the batch.
      x: `[N, H, W, C]`.
      places: P and Q, what the height and width become.
      regions: of which kind.
      sequence: of which kind.
      shared: by what a draw is shared.
      window: side of "windows".

    Raises:
      ValueError: where so many regions do not fit.
    """
    channels = x.shape[3] if shared == "channel" else 1

    def axis(key: jax.Array, size: int, count: int) -> Intervals:
        shape = (channels, *draws_of(count, regions, sequence))
        if shared == "batch":
            draw = jax.random.uniform(key, (1, *shape))
        else:
            draw = draw_by_example(lambda own: jax.random.uniform(own, shape), key, x)
        return intervals(draw, size, count, regions, sequence, window)

    of_rows, of_columns = jax.random.split(key)
    rows, columns = axis(of_rows, x.shape[1], places[0]), axis(of_columns, x.shape[2], places[1])
    return fractional_max_pool_given(rows, columns, x)


class FractionalMaxPool(nn.Module):
    """Fractional max pooling by a ratio; draws from the stream "dropout".

    At test it draws, too, where it is given that stream, which is how the paper tests: many times, with an average
    over the results (`marginalize`). Without it, it takes the pseudo-random regions in the middle (u = 1/2).

    Attributes:
      train: whether this is training, for which the stream is needed.
      ratio: by which height and width shrink, rounded to the nearest.
      regions: of which kind.
      sequence: of which kind.
      shared: by what a draw is shared.
      window: side of "windows".
    """

    train: bool
    ratio: float = math.sqrt(2)
    regions: Regions = "windows"
    sequence: Sequence = "random"
    shared: Shared = "batch"
    window: int = 2

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`x[N, H, W, C]` -> `[N, H / ratio, W / ratio, C]`."""
        if not 1 < self.ratio < 2:
            raise ValueError(f"fractional pooling shrinks by a ratio between 1 and 2, and {self.ratio} is none")
        h, w = (places_of(size, self.ratio) for size in x.shape[1:3])
        if self.train or self.has_rng("dropout"):
            key = self.make_rng("dropout")
            return fractional_max_pool(key, x, (h, w), self.regions, self.sequence, self.shared, self.window)
        half = jnp.full((1, 1), 0.5)
        rows, columns = (
            intervals(half, size, count, self.regions, "pseudorandom", self.window)
            for size, count in zip(x.shape[1:3], (h, w), strict=True)
        )
        return fractional_max_pool_given(rows, columns, x)


def _maxima(x: jax.Array, where: Intervals, axis: int) -> jax.Array:
    """Along an axis, by one gather for each position that a region may have; past its end it stays at its last."""
    found = _at(x, where.starts, axis)
    for offset in range(1, where.longest):
        value = _at(x, jnp.minimum(where.starts + offset, where.ends - 1), axis)
        found = jnp.where((value > found) | jnp.isnan(value), value, found)
    return found


def _at(x: jax.Array, index: jax.Array, axis: int) -> jax.Array:
    """`x[N, H, W, C]` at `index[1 or N, 1 or C, P]` of an axis."""
    if index.shape[:2] == (1, 1):
        return jnp.take(x, index[0, 0], axis=axis, mode="clip")
    whole = index.swapaxes(1, 2)  # [N, P, C]
    return jnp.take_along_axis(x, jnp.expand_dims(whole, 3 - axis), axis=axis, mode="clip")
