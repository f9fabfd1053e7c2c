"""Pooling over windows that do not overlap, written as a reshape.

On CPU the gradient of a reshape and a maximum is far cheaper than that of `reduce_window`, whose derivative is a
select-and-scatter. Where several values of a window share the maximum, the gradient is divided among them.
"""

from typing import Literal

import jax

Pooling = Literal["max", "average"]


def pool(x: jax.Array, kind: Pooling = "max", window: int = 2) -> jax.Array:
    """Pools `x[N, H, W, C]` over `window` x `window` tiles to `[N, H // window, W // window, C]`.

    Rows and columns that do not fill a tile are left out, as unpadded pooling does.
    """
    n, h, w, c = x.shape
    rows, columns = h // window, w // window
    tiles = x[:, : rows * window, : columns * window].reshape(n, rows, window, columns, window, c)
    return tiles.max(axis=(2, 4)) if kind == "max" else tiles.mean(axis=(2, 4))
