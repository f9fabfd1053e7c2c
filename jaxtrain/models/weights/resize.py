"""Resizing of arrays whose shape differs from the model's, for other numbers of channels and other image sizes."""

import dataclasses
import math
from collections.abc import Callable
from typing import Literal

import numpy as np

from jaxtrain.models.weights.axis_order import FileArray, Shape, VariableLayout
from jaxtrain.models.weights.resampling import Convention, adaptive_average, bicubic
from jaxtrain.models.weights.tracing import Image, ModelTrace

FirstConv = Literal["strict", "adapt"]
"""Treatment of a first convolution for another number of channels: refuse it, or adapt its channels."""
Positions = Literal["strict", "torchvision", "timm"]
"""Treatment of positions for another number of patches: refuse them, or interpolate by the convention of a library."""
FirstDense = Literal["strict", "pooled"]
"""Treatment of a dense layer on a feature map of another size: refuse it, or convert it by average pooling."""


@dataclasses.dataclass(frozen=True)
class Adaptation:
    """A way to resize an array of another shape.

    Attributes:
      setting: option of `load_weights` that turns it on, such as `first_conv="adapt"`.
      wanted: whether the caller turned it on.
      found: description of the array in the file.
      made: description of the result.
      ours: conversion of the array to our variable by path.
    """

    setting: str
    wanted: bool
    found: str
    made: str
    ours: Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class ResizeOptions:
    """The kinds of resizing that the caller allows; see `load_weights`."""

    first_conv: FirstConv = "strict"
    positions: Positions = "strict"
    first_dense: FirstDense = "strict"

    def adaptation(self, entry: FileArray, shape: Shape, anatomy: ModelTrace) -> Adaptation | None:
        """Return the resizing that makes an array of `shape` fit `entry`, or None."""
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

    def _first_conv(self, part: VariableLayout, shape: Shape) -> Adaptation | None:
        h, w, new, features = part.shape
        old = math.prod(shape) // (h * w * features)
        source = dataclasses.replace(part, shape=(h, w, old, features))
        return _build_adaptation(
            source,
            shape,
            'first_conv="adapt"',
            self.first_conv == "adapt",
            f"a first convolution for {_count_channels(old)}",
            f"one for {_count_channels(new)}",
            lambda kernel: resize_channels(kernel, new),
        )

    def _positions(self, part: VariableLayout, shape: Shape, anatomy: ModelTrace) -> Adaptation | None:
        h, w, _ = anatomy.image
        tokens, width = part.shape[1:]
        old = math.isqrt(max(math.prod(shape) // width - 1, 0))
        patch = math.isqrt(h * w // (tokens - 1))
        new = (h // patch, w // patch)
        convention: Convention = "timm" if self.positions == "timm" else "torchvision"
        return _build_adaptation(
            dataclasses.replace(part, shape=(1, old * old + 1, width)),
            shape,
            'positions="torchvision" or "timm"',
            self.positions != "strict",
            f"an array of positions of {old}x{old} patches",
            f"positions of {new[0]}x{new[1]} patches by bicubic interpolation as in {convention}",
            lambda positions: resize_positions(positions, (old, old), new, convention),
        )

    def _first_dense(self, part: VariableLayout, shape: Shape) -> Adaptation | None:
        if part.seen is None:
            return None
        h, w, c = part.seen
        units = part.shape[1]
        side = math.isqrt(math.prod(shape) // (c * units))
        old: Image = (side, side, c)
        return _build_adaptation(
            dataclasses.replace(part, shape=(side * side * c, units), seen=old),
            shape,
            'first_dense="pooled"',
            self.first_dense == "pooled",
            f"a dense layer on a {side}x{side} map",
            f"one on a {h}x{w} map that is first pooled to {side}x{side}",
            lambda kernel: resize_dense_kernel(kernel, old, (h, w, c)),
        )


def resize_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Convert `kernel[H, W, I, O]` to another number of input channels, and keep the scale of the outputs.

    One channel gets the sum over the old channels: gray images give the same outputs as three equal channels did. More
    channels repeat the old ones cyclically, scaled by old / new. This is timm's `adapt_input_conv`.
    """
    old = kernel.shape[2]
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    repeats = np.take(kernel, np.arange(channels) % old, axis=2)
    return repeats * np.asarray(old / channels, kernel.dtype)


def resize_positions(
    positions: np.ndarray, old: tuple[int, int], new: tuple[int, int], convention: Convention
) -> np.ndarray:
    """Interpolate `positions[1, 1 + h * w, D]` to another grid of patches; keep the first, the class token's."""
    token, grid = positions[:, :1], positions[0, 1:].reshape(*old, -1)
    rows, columns = (bicubic(a, b, convention) for a, b in zip(old, new, strict=True))
    resized = np.einsum("yh,xw,hwd->yxd", rows, columns, grid, optimize=True).astype(positions.dtype)
    return np.concatenate([token, resized.reshape(1, -1, positions.shape[-1])], axis=1)


def resize_dense_kernel(kernel: np.ndarray, old: Image, new: Image) -> np.ndarray:
    """Convert `kernel[h * w * c, units]`, of a dense layer on a flattened feature map, to another size of the map.

    The new layer equals adaptive average pooling to the old size followed by the old layer, as in torchvision's VGG and
    AlexNet. Pooling is linear, so the kernel absorbs it.
    """
    rows, columns = (adaptive_average(n, o).astype(kernel.dtype) for o, n in zip(old[:2], new[:2], strict=True))
    resized = np.einsum("hy,wx,hwco->yxco", rows, columns, kernel.reshape(*old, -1), optimize=True)
    return resized.reshape(math.prod(new), -1)


def _build_adaptation(
    source: VariableLayout,
    shape: Shape,
    setting: str,
    wanted: bool,
    found: str,
    made: str,
    change: Callable[[np.ndarray], np.ndarray],
) -> Adaptation | None:
    """Return the adaptation if `shape`, of the array in the file, is that of `source` there, or None."""
    if 0 in source.shape or source.their_shape != shape:
        return None

    def ours(array: np.ndarray) -> dict[str, np.ndarray]:
        return {source.path: change(source.ours(array))}

    return Adaptation(setting, wanted, found, made, ours)


def _count_channels(number: int) -> str:
    return f"{number} channel{'' if number == 1 else 's'}"
