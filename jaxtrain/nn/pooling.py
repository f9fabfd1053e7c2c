"""Pooling, and the sizes of what windows make of an axis.

Where windows do not overlap, it is written as a reshape: on CPU the gradient of a reshape and a maximum is far cheaper
than that of `reduce_window`, whose derivative is a select-and-scatter. Where several values of such a window share the
maximum, the gradient is divided among them.
"""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

Pooling = Literal["max", "average"]


Padding = tuple[tuple[int, int], tuple[int, int]]
"""What is added above and below, and to the left and to the right."""


def pool(x: jax.Array, kind: Pooling = "max", window: int = 2) -> jax.Array:
    """Pools `x[N, H, W, C]` over `window` x `window` tiles to `[N, H // window, W // window, C]`.

    Rows and columns that do not fill a tile are left out, as unpadded pooling does.
    """
    n, h, w, c = x.shape
    rows, columns = output_size(h, window, stride=window), output_size(w, window, stride=window)
    axis = jax.typeof(x).sharding.spec[0]  # of an explicit mesh, over which the images stay sharded
    tiles = jax.lax.reshape(
        x[:, : rows * window, : columns * window],
        (n, rows, window, columns, window, c),
        out_sharding=None if axis is None else jax.P(axis),
    )
    return tiles.max(axis=(2, 4)) if kind == "max" else tiles.mean(axis=(2, 4))


def max_pool(x: jax.Array, window: int, stride: int, *, padding: int = 0, ceil: bool = False) -> jax.Array:
    """The maximum of `x[N, H, W, C]` over windows that may overlap; padding is never the maximum.

    Args:
      x: the input, of a floating dtype.
      window: its side.
      stride: between windows.
      padding: on every side.
      ceil: a last window may hang over the end (Caffe, torch's `ceil_mode`); else what it would need is left out.
    """
    if window == stride and not padding and not (ceil and (x.shape[1] % window or x.shape[2] % window)):
        return pool(x, "max", window)
    return nn.max_pool(x, (window, window), (stride, stride), _padding(x, window, stride, padding, ceil))


def average_pool(
    x: jax.Array, window: int, stride: int, *, padding: int = 0, ceil: bool = False, count_padding: bool = True
) -> jax.Array:
    """The mean of `x[N, H, W, C]` over windows that may overlap.

    Args:
      x: the input, of a floating dtype.
      window: its side.
      stride: between windows.
      padding: of zeros on every side.
      ceil: a last window may hang over the end (Caffe, torch's `ceil_mode`).
      count_padding: whether the zeros of `padding` count in the mean, as in torch and Caffe. What hangs over beyond
        them never does.
    """
    if window == stride and not padding and not ceil:
        return pool(x, "average", window)
    pads = _padding(x, window, stride, padding, ceil)
    sums = jax.lax.reduce_window(
        x, np.zeros((), x.dtype), jax.lax.add, (1, window, window, 1), (1, stride, stride, 1), ((0, 0), *pads, (0, 0))
    )
    inside = padding if count_padding else 0
    counts = [
        _covered(size, window, stride, padding, inside, places)
        for size, places in zip(x.shape[1:3], sums.shape[1:3], strict=True)
    ]
    return sums / jnp.asarray([[[c * r] for c in counts[1]] for r in counts[0]], x.dtype)[None]


def global_pool(x: jax.Array, kind: Pooling = "average") -> jax.Array:
    """`x[N, H, W, C]` over all places -> `[N, C]`."""
    return x.max(axis=(1, 2)) if kind == "max" else x.mean(axis=(1, 2))


class Subsampling(nn.Module):
    """The pooling of LeNet-5 (LeCun et al. 1998, section II.B): 2x2 sums, times a coefficient, plus a bias, a channel.

    Attributes:
      window: side of the tiles.
      param_dtype: of coefficients and biases.
    """

    window: int = 2
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`x[N, H, W, C]` -> `[N, H // window, W // window, C]`, before the squashing function."""
        channels = x.shape[-1]
        # which begins as the mean
        mean = nn.initializers.constant(self.window**-2)
        coefficient = self.param("coefficient", mean, (channels,), self.param_dtype).astype(x.dtype)
        bias = self.param("bias", nn.initializers.zeros, (channels,), self.param_dtype).astype(x.dtype)
        total = pool(x, "average", self.window) * self.window**2
        return total * coefficient.reshape(1, 1, 1, -1) + bias.reshape(1, 1, 1, -1)


def _padding(x: jax.Array, window: int, stride: int, padding: int, ceil: bool) -> list[tuple[int, int]]:
    pads = []
    for size in x.shape[1:3]:
        places = output_size(size, window, stride=stride, padding=(padding, padding), ceil=ceil)
        end = (places - 1) * stride + window - padding - size  # negative where a rest is left out
        pads.append((padding, max(end, padding if not ceil else 0)))
    return pads


def _covered(size: int, window: int, stride: int, padding: int, inside: int, places: int) -> list[int]:
    """How many positions count in each window along an axis."""
    starts = (i * stride - padding for i in range(places))
    return [min(s + window, size + inside) - max(s, -inside) for s in starts]


def symmetric(padding: int) -> Padding:
    """The same padding on every side."""
    return (padding, padding), (padding, padding)


def output_size(
    size: int,
    window: int,
    *,
    stride: int = 1,
    padding: tuple[int, int] = (0, 0),
    ceil: bool = False,
    exact: bool = False,
) -> int:
    """How many places a window has along an axis: (size + padding - window) / stride + 1, rounded down.

    Args:
      size: of the input along the axis.
      window: of the kernel; (k - 1) * dilation + 1 for a dilated one.
      stride: between two places.
      padding: before and after.
      ceil: rounds up, as Caffe's pooling and torch's `ceil_mode` do: a last window may hang over the end, and is left
        out if it would begin beyond the input and the padding before it.
      exact: refuses what is not a whole number instead of rounding it.

    Raises:
      ValueError: where the window has no place, or with `exact` not a whole number of them.
    """
    room = size + sum(padding) - window
    told = f"a window of {window} with stride {stride} and padding {padding[0]} and {padding[1]} on a side of {size}"
    if room < 0:
        raise ValueError(f"{told} has no place: the side must be at least {window - sum(padding)}")
    if exact and room % stride:
        raise ValueError(
            f"{told} fits {room / stride + 1:g} times; change the padding by {room % stride} or the stride"
        )
    if not ceil:
        return room // stride + 1
    places = math.ceil(room / stride) + 1
    return places - 1 if (places - 1) * stride >= size + padding[0] else places


def full_size(size: int, window: int) -> int:
    """Places at which a window and the input overlap at all: size + window - 1, the "full" correlation."""
    return size + window - 1
