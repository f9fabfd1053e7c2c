"""The receptive field of a stack of convolutions and poolings, by the formula for one axis."""

import dataclasses
from collections.abc import Iterable


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
