"""What every augmentation on the host is: a window on the picture, drawn from its size before it is decoded.

A list of them is one window again, so a picture is resampled once, however long the list, and what is not seen is not
computed.
"""

import abc
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

Size = tuple[int, int]
"""Width and height in pixels, in Pillow's order."""

_REDUCTIONS = (8, 4, 2)
_GAP = 2


class Window(NamedTuple):
    """A part of a picture, and the size to which it is brought.

    `left`, `top`, `width` and `height` are in pixels of the picture and may be broken; `size` is the result's;
    `mirrored` turns the result left to right.
    """

    left: float
    top: float
    width: float
    height: float
    size: Size
    mirrored: bool = False


class HostAugmentation(abc.ABC):
    """An augmentation with its options; `window` is the draw, `show` its use."""

    def random(self) -> bool:
        """Whether it draws anything."""
        return True

    @abc.abstractmethod
    def window(self, draws: np.random.RandomState, size: Size) -> Window:
        """The window on a picture of `size`; pure but for the numbers that it takes from `draws`."""

    @abc.abstractmethod
    def result(self, size: Size | None) -> Size | None:
        """The size of what it gives, for pictures of `size`; None where that differs from picture to picture."""

    def __call__(self, draws: np.random.RandomState, image: "Image.Image") -> "Image.Image":
        """The augmented `image`."""
        return show(image, self.window(draws, image.size))


def whole(size: Size) -> Window:
    """All of a picture, as it is."""
    return Window(0, 0, *size, size)


def compose(first: Window, second: Window) -> Window:
    """`second`, a window on what `first` shows, as a window on the picture behind both."""
    across, down = first.width / first.size[0], first.height / first.size[1]
    left = first.size[0] - second.left - second.width if first.mirrored else second.left
    return Window(
        left=first.left + left * across,
        top=first.top + second.top * down,
        width=second.width * across,
        height=second.height * down,
        size=second.size,
        mirrored=first.mirrored != second.mirrored,
    )


def show(image: "Image.Image", window: Window, size: Size | None = None) -> "Image.Image":
    """What `window` shows of `image`, bilinear, antialiased where it shrinks.

    The pixels beside the window take part at its edges, as they do when the whole picture is resampled and then cut.

    Args:
      image: the picture, decoded at its own size or a smaller one.
      window: in pixels of the picture at its own size.
      size: its own size; that of `image` for None.
    """
    from PIL import Image

    width, height = size or image.size
    across, down = image.width / width, image.height / height
    left, top = max(window.left * across, 0.0), max(window.top * down, 0.0)
    right = min((window.left + window.width) * across, float(image.width))
    bottom = min((window.top + window.height) * down, float(image.height))
    wide, high = window.size
    if right - left == wide and bottom - top == high and left.is_integer() and top.is_integer():
        part = image.crop((int(left), int(top), int(right), int(bottom)))
    else:
        part = image.resize(window.size, Image.Resampling.BILINEAR, box=(left, top, right, bottom))
    return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if window.mirrored else part


def reduction(window: Window) -> int:
    """How many times smaller, 1, 2, 4 or 8, a JPEG may be decoded for `window`, which its format can do at less cost.

    At least twice the resolution of the result is left, so that the resampling that follows decides what it looks like
    (Pillow's `reducing_gap` of 2).
    """
    spare = min(window.width / window.size[0], window.height / window.size[1])
    return next((factor for factor in _REDUCTIONS if spare >= _GAP * factor), 1)
