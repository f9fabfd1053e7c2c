"""How an array of another library lies in memory, against ours: axes taken apart, reordered and joined again.

A layout says it for one parameter as three steps, `reshape(split)`, `transpose(order)`, `reshape(theirs)`, that lead
from ours to theirs and, backwards, from theirs to ours.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np

from jaxtrain.models.weights.tracing import Image

Shape = tuple[int, ...]
Steps = tuple[Shape, Shape, Shape]
"""Split, order, theirs."""
Layout = Callable[[Shape, Image | None], Steps]
"""From our shape, and the flattened feature map that the parameter sees, to the steps."""


def same(shape: Shape, seen: Image | None = None) -> Steps:
    """As it is."""
    return shape, tuple(range(len(shape))), shape


def convolution(shape: Shape, seen: Image | None = None) -> Steps:
    """HWIO and OIHW."""
    h, w, i, o = shape
    return shape, (3, 2, 0, 1), (o, i, h, w)


def dense(shape: Shape, seen: Image | None = None) -> Steps:
    """(in, out) and (out, in); after a feature map the rows are ordered h, w, c here and c, h, w there."""
    rows, o = shape
    if seen is None:
        return shape, (1, 0), (o, rows)
    return (*seen, o), (3, 2, 0, 1), (o, rows)


def dense_as_convolution(shape: Shape, seen: Image | None = None) -> Steps:
    """(in, out) and a convolution over the whole feature map (out, c, h, w)."""
    rows, o = shape
    h, w, c = seen or (1, 1, rows)
    return (h, w, c, o), (3, 2, 0, 1), (o, c, h, w)


def attention_input(shape: Shape, seen: Image | None = None) -> Steps:
    """(in, heads, d) and (heads * d, in); a bias is (heads, d) and (heads * d)."""
    *inputs, heads, d = shape
    split = (*inputs, heads * d)
    return split, tuple(reversed(range(len(split)))), tuple(reversed(split))


def attention_output(shape: Shape, seen: Image | None = None) -> Steps:
    """(heads, d, out) and (out, heads * d)."""
    heads, d, out = shape
    return (heads * d, out), (1, 0), (out, heads * d)


@dataclasses.dataclass(frozen=True)
class Part:
    """One of our variables as it stands in an array of a file.

    Attributes:
      path: such as `params/conv1/kernel`.
      shape: ours.
      layout: how theirs differs.
      seen: the flattened feature map before it.
      channels: for an axis of ours, which of our channels each of theirs is.
    """

    path: str
    shape: Shape
    layout: Layout = same
    seen: Image | None = None
    channels: Mapping[int, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def their_shape(self) -> Shape:
        """Of the array in the file."""
        return self.layout(self.shape, self.seen)[2]

    def theirs(self, ours: np.ndarray) -> np.ndarray:
        """Our array in their layout, contiguous."""
        split, order, joined = self.layout(self.shape, self.seen)
        for axis, channels in self.channels.items():
            ours = np.take(ours, channels, axis)
        return np.ascontiguousarray(ours.reshape(split).transpose(order)).reshape(joined)

    def ours(self, theirs: np.ndarray) -> np.ndarray:
        """Their array in our layout."""
        split, order, _ = self.layout(self.shape, self.seen)
        ours = theirs.reshape([split[axis] for axis in order]).transpose(np.argsort(order)).reshape(self.shape)
        for axis, channels in self.channels.items():
            ours = np.take(ours, np.argsort(channels), axis)
        return ours


@dataclasses.dataclass(frozen=True)
class Entry:
    """An array of a file: one of our variables, or several of one shape, one after the other on the first axis.

    Attributes:
      name: in the file.
      parts: ours.
    """

    name: str
    parts: tuple[Part, ...]

    @property
    def shape(self) -> Shape:
        """Of the array in the file."""
        shape = self.parts[0].their_shape
        return (shape[0] * len(self.parts), *shape[1:]) if len(self.parts) > 1 else shape

    @property
    def size(self) -> int:
        """Numbers in the array."""
        return math.prod(self.shape)

    def theirs(self, variables: Mapping[str, np.ndarray]) -> np.ndarray:
        """The array of the file."""
        arrays = [part.theirs(variables[part.path]) for part in self.parts]
        return np.concatenate(arrays) if len(arrays) > 1 else arrays[0]

    def ours(self, array: np.ndarray) -> dict[str, np.ndarray]:
        """Our variables by path."""
        pieces = np.split(array, len(self.parts)) if len(self.parts) > 1 else [array]
        return {part.path: part.ours(piece) for part, piece in zip(self.parts, pieces, strict=True)}
