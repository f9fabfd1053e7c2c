"""Pooling, and the output sizes of windows along an axis.

Pooling over windows that do not overlap is a reshape and a reduction. On a CPU its gradient is much cheaper than that
of `reduce_window`, which is a select-and-scatter. If several values of such a window equal the maximum, the gradient is
divided among them.
"""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

Pooling = Literal["max", "average"]


Padding = tuple[tuple[int, int], tuple[int, int]]
"""The padding `((top, bottom), (left, right))`."""


def pool(x: jax.Array, kind: Pooling = "max", window: int = 2) -> jax.Array:
    """Pool `x[N, H, W, C]` over `window` x `window` tiles to `[N, H // window, W // window, C]`.

    Rows and columns that do not fill a tile are dropped, as in pooling without padding.

    Example:
      >>> import jax.numpy as jnp, jaxtrain
      >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
      >>> jaxtrain.nn.pool(x, "max")[0, :, :, 0].tolist()
      [[5.0, 7.0], [13.0, 15.0]]
    """
    n, h, w, c = x.shape
    rows, columns = output_size(h, window, stride=window), output_size(w, window, stride=window)
    axis = jax.typeof(x).sharding.spec[0]  # the mesh axis of an explicit mesh that the images are sharded over
    tiles = jax.lax.reshape(
        x[:, : rows * window, : columns * window],
        (n, rows, window, columns, window, c),
        out_sharding=None if axis is None else jax.P(axis),
    )
    return tiles.max(axis=(2, 4)) if kind == "max" else tiles.mean(axis=(2, 4))


def max_pool(x: jax.Array, window: int, stride: int, *, padding: int = 0, ceil: bool = False) -> jax.Array:
    """Return the maxima of `x[N, H, W, C]` over windows that may overlap; padding is never the maximum.

    Args:
      x: the input, of a floating dtype.
      window: the side of a window.
      stride: the distance between windows.
      padding: the padding on every side.
      ceil: whether a last window may extend past the end (Caffe, torch's `ceil_mode`); otherwise positions that do not
        fill a window are dropped.

    Example:
      >>> import jax.numpy as jnp, jaxtrain
      >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
      >>> jaxtrain.nn.max_pool(x, window=3, stride=2, padding=1)[0, :, :, 0].tolist()
      [[5.0, 7.0], [13.0, 15.0]]
    """
    if window == stride and not padding and not (ceil and (x.shape[1] % window or x.shape[2] % window)):
        return pool(x, "max", window)
    return nn.max_pool(x, (window, window), (stride, stride), _padding(x, window, stride, padding, ceil))


def average_pool(
    x: jax.Array, window: int, stride: int, *, padding: int = 0, ceil: bool = False, count_padding: bool = True
) -> jax.Array:
    """Return the means of `x[N, H, W, C]` over windows that may overlap.

    Args:
      x: the input, of a floating dtype.
      window: the side of a window.
      stride: the distance between windows.
      padding: the zero padding on every side.
      ceil: whether a last window may extend past the end (Caffe, torch's `ceil_mode`).
      count_padding: whether the zeros of `padding` count in the mean, as in torch and Caffe; positions beyond them
        never count.

    Example:
      >>> import jax.numpy as jnp, jaxtrain
      >>> x = jnp.ones((1, 2, 2, 1))
      >>> jaxtrain.nn.average_pool(x, window=2, stride=1, padding=1)[0, :, :, 0].tolist()
      [[0.25, 0.5, 0.25], [0.5, 1.0, 0.5], [0.25, 0.5, 0.25]]
    """
    if window == stride and not padding and not ceil:
        return pool(x, "average", window)
    pads = _padding(x, window, stride, padding, ceil)
    sums = jax.lax.reduce_window(
        x, np.zeros((), x.dtype), jax.lax.add, (1, window, window, 1), (1, stride, stride, 1), ((0, 0), *pads, (0, 0))
    )
    inside = padding if count_padding else 0
    counts = [
        _count_positions(size, window, stride, padding, inside, count)
        for size, count in zip(x.shape[1:3], sums.shape[1:3], strict=True)
    ]
    return sums / jnp.asarray([[[c * r] for c in counts[1]] for r in counts[0]], x.dtype)[None]


def global_pool(x: jax.Array, kind: Pooling = "average") -> jax.Array:
    """Pool `x[N, H, W, C]` over all positions to `[N, C]`.

    Example:
      >>> import jax.numpy as jnp, jaxtrain
      >>> jaxtrain.nn.global_pool(jnp.arange(8.0).reshape(1, 2, 2, 2)).tolist()
      [[3.0, 4.0]]
    """
    return x.max(axis=(1, 2)) if kind == "max" else x.mean(axis=(1, 2))


class Subsampling(nn.Module):
    """The pooling of LeNet-5: 2x2 sums times a coefficient plus a bias per channel (LeCun et al. 1998, section II.B).

    The coefficient begins as 1 / window^2, which makes the layer an average.

    Attributes:
      window: the side of a tile.
      param_dtype: the dtype of coefficients and biases.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> x = jnp.arange(4.0).reshape(1, 2, 2, 1)
      >>> y, variables = jaxtrain.nn.Subsampling().init_with_output(jax.random.key(0), x)
      >>> y.tolist(), variables["params"]["coefficient"].tolist()
      ([[[[1.5]]]], [0.25])
    """

    window: int = 2
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return `[N, H // window, W // window, C]` for `x[N, H, W, C]`, before the activation."""
        channels = x.shape[-1]
        mean = nn.initializers.constant(self.window**-2)
        coefficient = self.param("coefficient", mean, (channels,), self.param_dtype).astype(x.dtype)
        bias = self.param("bias", nn.initializers.zeros, (channels,), self.param_dtype).astype(x.dtype)
        total = pool(x, "average", self.window) * self.window**2
        return total * coefficient.reshape(1, 1, 1, -1) + bias.reshape(1, 1, 1, -1)


def _padding(x: jax.Array, window: int, stride: int, padding: int, ceil: bool) -> list[tuple[int, int]]:
    pads = []
    for size in x.shape[1:3]:
        count = output_size(size, window, stride=stride, padding=(padding, padding), ceil=ceil)
        end = (count - 1) * stride + window - padding - size  # negative if the last positions are dropped
        pads.append((padding, max(end, padding if not ceil else 0)))
    return pads


def _count_positions(size: int, window: int, stride: int, padding: int, inside: int, count: int) -> list[int]:
    """Return the number of positions of each window that count in its mean, along an axis."""
    starts = (i * stride - padding for i in range(count))
    return [min(s + window, size + inside) - max(s, -inside) for s in starts]


def symmetric_padding(padding: int) -> Padding:
    """Return the same padding for every side."""
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
    """Return the number of windows along an axis: (size + padding - window) / stride + 1, rounded down.

    Args:
      size: the size of the input along the axis.
      window: the size of the kernel; (k - 1) * dilation + 1 if it is dilated.
      stride: the distance between windows.
      padding: the padding before and after.
      ceil: whether to round up, as Caffe's pooling and torch's `ceil_mode` do. A last window may then extend past the
        end; it is dropped if it would begin beyond the input and the padding before it.
      exact: whether to raise an error instead of rounding.

    Raises:
      ValueError: no window fits, or with `exact` the number of windows is not an integer.
    """
    room = size + sum(padding) - window
    case = f"a window of {window} with stride {stride} and padding {padding[0]} and {padding[1]} on a side of {size}"
    if room < 0:
        raise ValueError(f"{case} does not fit: the side must be at least {window - sum(padding)}")
    if exact and room % stride:
        raise ValueError(
            f"{case} fits {room / stride + 1:g} times; change the padding by {room % stride} or the stride"
        )
    if not ceil:
        return room // stride + 1
    count = math.ceil(room / stride) + 1
    return count - 1 if (count - 1) * stride >= size + padding[0] else count


def full_correlation_size(size: int, window: int) -> int:
    """Return the output size of a "full" correlation, size + window - 1: all positions that overlap the input."""
    return size + window - 1
