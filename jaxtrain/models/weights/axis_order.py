"""Conversion of arrays between our axis order and that of another library ("theirs").

A layout describes the conversion of one parameter as three steps: `reshape(split)`, `transpose(order)` and
`reshape(theirs)` convert our array to theirs. The reverse steps convert theirs to ours.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np

from jaxtrain.models.weights.tracing import Image

Shape = tuple[int, ...]
Steps = tuple[Shape, Shape, Shape]
"""The three steps `(split, order, theirs)`: a shape, a permutation of axes and a shape."""
Layout = Callable[[Shape, Image | None], Steps]
"""A function of our shape, and of the flattened feature map before the parameter (if any), that returns the steps."""


def same_layout(shape: Shape, seen: Image | None = None) -> Steps:
    """Return the steps of an array with the same layout in both libraries."""
    return shape, tuple(range(len(shape))), shape


def conv_layout(shape: Shape, seen: Image | None = None) -> Steps:
    """Return the steps of a convolution kernel: HWIO here, OIHW there."""
    h, w, i, o = shape
    return shape, (3, 2, 0, 1), (o, i, h, w)


def dense_layout(shape: Shape, seen: Image | None = None) -> Steps:
    """Return the steps of a dense kernel: (in, out) here, (out, in) there.

    After a flattened feature map, the inputs are ordered h, w, c here and c, h, w there.
    """
    rows, o = shape
    if seen is None:
        return shape, (1, 0), (o, rows)
    return (*seen, o), (3, 2, 0, 1), (o, rows)


def dense_as_conv_layout(shape: Shape, seen: Image | None = None) -> Steps:
    """Return the steps of a dense kernel (in, out) that is a convolution kernel (out, c, h, w) there.

    That convolution covers the whole feature map.
    """
    rows, o = shape
    h, w, c = seen or (1, 1, rows)
    return (h, w, c, o), (3, 2, 0, 1), (o, c, h, w)


def attention_input_layout(shape: Shape, seen: Image | None = None) -> Steps:
    """Return the steps of a query, key or value kernel: (in, heads, d) here, (heads * d, in) there.

    A bias is (heads, d) here and (heads * d) there.
    """
    *inputs, heads, d = shape
    split = (*inputs, heads * d)
    return split, tuple(reversed(range(len(split)))), tuple(reversed(split))


def attention_output_layout(shape: Shape, seen: Image | None = None) -> Steps:
    """Return the steps of the output kernel of attention: (heads, d, out) here, (out, heads * d) there."""
    heads, d, out = shape
    return (heads * d, out), (1, 0), (out, heads * d)


@dataclasses.dataclass(frozen=True)
class VariableLayout:
    """One of our variables, and its layout in an array of a file.

    Attributes:
      path: path of the variable, such as `params/conv1/kernel`.
      shape: our shape.
      layout: layout of the array in the file.
      seen: shape of the flattened feature map before the parameter, if there is one.
      channels: channel permutations by our axis: element i is the index of our channel that is channel i in the file.
    """

    path: str
    shape: Shape
    layout: Layout = same_layout
    seen: Image | None = None
    channels: Mapping[int, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def their_shape(self) -> Shape:
        """The shape of this variable in the file."""
        return self.layout(self.shape, self.seen)[2]

    def theirs(self, ours: np.ndarray) -> np.ndarray:
        """Return our array in the layout of the file, contiguous."""
        split, order, shape = self.layout(self.shape, self.seen)
        for axis, channels in self.channels.items():
            ours = np.take(ours, channels, axis)
        return np.ascontiguousarray(ours.reshape(split).transpose(order)).reshape(shape)

    def ours(self, theirs: np.ndarray) -> np.ndarray:
        """Return an array of the file in our layout."""
        split, order, _ = self.layout(self.shape, self.seen)
        ours = theirs.reshape([split[axis] for axis in order]).transpose(np.argsort(order)).reshape(self.shape)
        for axis, channels in self.channels.items():
            ours = np.take(ours, np.argsort(channels), axis)
        return ours


@dataclasses.dataclass(frozen=True)
class FileArray:
    """An array of a file: one of our variables, or several of the same shape, concatenated on the first axis.

    Attributes:
      name: name of the array in the file.
      parts: our variables in the array.
    """

    name: str
    parts: tuple[VariableLayout, ...]

    @property
    def shape(self) -> Shape:
        """The shape of the array in the file."""
        shape = self.parts[0].their_shape
        return (shape[0] * len(self.parts), *shape[1:]) if len(self.parts) > 1 else shape

    @property
    def size(self) -> int:
        """The number of elements of the array."""
        return math.prod(self.shape)

    def theirs(self, variables: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the array of the file, converted from our variables."""
        arrays = [part.theirs(variables[part.path]) for part in self.parts]
        return np.concatenate(arrays) if len(arrays) > 1 else arrays[0]

    def ours(self, array: np.ndarray) -> dict[str, np.ndarray]:
        """Return our variables by path, converted from the array of the file."""
        pieces = np.split(array, len(self.parts)) if len(self.parts) > 1 else [array]
        return {part.path: part.ours(piece) for part, piece in zip(self.parts, pieces, strict=True)}
