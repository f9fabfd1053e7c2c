"""What can be made of an array of another shape: another number of channels, another size of images."""

import dataclasses
import math
from collections.abc import Callable
from typing import Literal

import numpy as np

from jaxtrain.models.weights.axis_order import Entry, Part, Shape
from jaxtrain.models.weights.resampling import Convention, adaptive_average, bicubic
from jaxtrain.models.weights.tracing import Anatomy, Image

FirstConv = Literal["strict", "adapt"]
"""What to do about a first convolution for another number of channels."""
Positions = Literal["strict", "torchvision", "timm"]
"""What to do about positions of another number of patches: the convention of their bicubic interpolation."""
FirstDense = Literal["strict", "pooled"]
"""What to do about a dense layer that sees a feature map of another size."""


@dataclasses.dataclass(frozen=True)
class Adaptation:
    """A way to use an array of another shape.

    Attributes:
      setting: what asks for it, such as `first_conv="adapt"`.
      wanted: whether it was asked for.
      found: what the array is, in words.
      made: what it becomes.
      ours: from the array to our variable.
    """

    setting: str
    wanted: bool
    found: str
    made: str
    ours: Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Adapting:
    """What may be adapted; see `load_weights`."""

    first_conv: FirstConv = "strict"
    positions: Positions = "strict"
    first_dense: FirstDense = "strict"

    def adaptation(self, entry: Entry, shape: Shape, anatomy: Anatomy) -> Adaptation | None:
        """How an array of `shape` can serve for `entry`, if it can."""
        if len(entry.parts) > 1:
            return None
        part = entry.parts[0]
        if part.path in anatomy.first:
            return self._first_conv(part, shape)
        if part.path == "params/positions":
            return self._positions(part, shape, anatomy)
        if part.path in anatomy.flattened:
            return self._first_dense(part, shape)
        return None

    def _first_conv(self, part: Part, shape: Shape) -> Adaptation | None:
        h, w, new, features = part.shape
        old = math.prod(shape) // (h * w * features)
        source = dataclasses.replace(part, shape=(h, w, old, features))
        return _adaptation(
            source,
            shape,
            'first_conv="adapt"',
            self.first_conv == "adapt",
            f"a first convolution for images with {old} channels",
            f"one for {new}",
            lambda kernel: with_channels(kernel, new),
        )

    def _positions(self, part: Part, shape: Shape, anatomy: Anatomy) -> Adaptation | None:
        h, w, _ = anatomy.image
        tokens, width = part.shape[1:]
        old = math.isqrt(max(math.prod(shape) // width - 1, 0))
        patch = math.isqrt(h * w // (tokens - 1))
        new = (h // patch, w // patch)
        convention: Convention = "timm" if self.positions == "timm" else "torchvision"
        return _adaptation(
            dataclasses.replace(part, shape=(1, old * old + 1, width)),
            shape,
            'positions="torchvision" or "timm"',
            self.positions != "strict",
            f"positions of {old}x{old} patches",
            f"{new[0]}x{new[1]} by bicubic interpolation as in {convention}",
            lambda positions: with_patches(positions, (old, old), new, convention),
        )

    def _first_dense(self, part: Part, shape: Shape) -> Adaptation | None:
        if part.seen is None:
            return None
        h, w, c = part.seen
        units = part.shape[1]
        side = math.isqrt(math.prod(shape) // (c * units))
        old: Image = (side, side, c)
        return _adaptation(
            dataclasses.replace(part, shape=(side * side * c, units), seen=old),
            shape,
            'first_dense="pooled"',
            self.first_dense == "pooled",
            f"a dense layer on a map of {side}x{side}",
            f"one on {h}x{w} that is first pooled to {side}x{side}",
            lambda kernel: for_pooled_map(kernel, old, (h, w, c)),
        )


def with_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """`kernel[H, W, I, O]` for another number of channels, so that what it gives keeps its size.

    For one channel the sum, so that gray images give what equal channels gave; for more the channels again and again,
    times the old number by the new one. As timm's `adapt_input_conv`.
    """
    old = kernel.shape[2]
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    repeated = np.take(kernel, np.arange(channels) % old, axis=2)
    return repeated * np.asarray(old / channels, kernel.dtype)


def with_patches(
    positions: np.ndarray, old: tuple[int, int], new: tuple[int, int], convention: Convention
) -> np.ndarray:
    """`positions[1, 1 + h * w, D]` for another grid of patches; the class token's, the first, stays."""
    token, grid = positions[:, :1], positions[0, 1:].reshape(*old, -1)
    rows, columns = (bicubic(a, b, convention) for a, b in zip(old, new, strict=True))
    moved = np.einsum("yh,xw,hwd->yxd", rows, columns, grid, optimize=True).astype(positions.dtype)
    return np.concatenate([token, moved.reshape(1, -1, positions.shape[-1])], axis=1)


def for_pooled_map(kernel: np.ndarray, old: Image, new: Image) -> np.ndarray:
    """`kernel[h * w * c, units]` of a layer that sees a map, for one that sees a map of another size.

    The layer gives what the old one gives after adaptive average pooling to the old size, which torchvision's VGG and
    AlexNet do: pooling is linear, and goes into the kernel.
    """
    rows, columns = (adaptive_average(n, o).astype(kernel.dtype) for o, n in zip(old[:2], new[:2], strict=True))
    moved = np.einsum("hy,wx,hwco->yxco", rows, columns, kernel.reshape(*old, -1), optimize=True)
    return moved.reshape(math.prod(new), -1)


def _adaptation(
    source: Part,
    shape: Shape,
    setting: str,
    wanted: bool,
    found: str,
    made: str,
    change: Callable[[np.ndarray], np.ndarray],
) -> Adaptation | None:
    """The adaptation, if the array has the shape that the source would have."""
    if 0 in source.shape or source.their_shape != shape:
        return None

    def ours(array: np.ndarray) -> dict[str, np.ndarray]:
        return {source.path: change(source.ours(array))}

    return Adaptation(setting, wanted, found, made, ours)
