"""Sizes of feature maps and receptive fields, for convolutions and pooling alike."""

import dataclasses
import math
from collections.abc import Iterable

Padding = tuple[tuple[int, int], tuple[int, int]]
"""What is added above and below, and to the left and to the right."""


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


@dataclasses.dataclass(frozen=True)
class Window:
    """A convolution or a pooling, seen along one axis."""

    size: int
    stride: int = 1
    padding: int = 0


@dataclasses.dataclass(frozen=True)
class ReceptiveField:
    """What one output of a stack of windows sees of the input, along one axis.

    Attributes:
      size: pixels that it sees.
      stride: pixels between what two neighbors see.
      start: where the first one's view begins; negative inside the padding.
    """

    size: int = 1
    stride: int = 1
    start: int = 0

    def through(self, window: Window) -> "ReceptiveField":
        """The field after one more window."""
        return ReceptiveField(
            size=self.size + (window.size - 1) * self.stride,
            stride=self.stride * window.stride,
            start=self.start - window.padding * self.stride,
        )


def receptive_field(windows: Iterable[Window]) -> ReceptiveField:
    """The field of a stack of windows, the first one first: two 3x3 see 5 pixels, three see 7."""
    field = ReceptiveField()
    for window in windows:
        field = field.through(window)
    return field
