"""The base class of decode transforms: each draws a window on the image, from the image's size, before it is decoded.

A list of transforms composes to one window. An image is therefore resampled once, however long the list, and pixels
outside of the window are not computed.
"""

import abc
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

Size = tuple[int, int]
"""Width and height in pixels, in Pillow's order."""

_REDUCTIONS = (8, 4, 2)
"""The factors by which a JPEG can be decoded smaller."""
_GAP = 2
"""The smallest factor between the decoded and the final resolution, Pillow's `reducing_gap`."""


class CropWindow(NamedTuple):
    """A part of an image, and the size to which it is scaled.

    Attributes:
      left: left edge in pixels of the image; may be fractional.
      top: top edge in pixels of the image; may be fractional.
      width: width in pixels of the image; may be fractional.
      height: height in pixels of the image; may be fractional.
      size: width and height of the result.
      mirrored: whether the result is flipped left to right.
    """

    left: float
    top: float
    width: float
    height: float
    size: Size
    mirrored: bool = False


class DecodeTransform(abc.ABC):
    """A decode transform with its options: `window` draws, and `show` applies the window."""

    def random(self) -> bool:
        """Return whether the transform draws random numbers."""
        return True

    @abc.abstractmethod
    def window(self, rng: np.random.RandomState, size: Size) -> CropWindow:
        """Return the window on an image of `size`; it depends only on `size` and on the numbers drawn from `rng`."""

    @abc.abstractmethod
    def result(self, size: Size | None) -> Size | None:
        """Return the size of the results for images of `size`, or None if it differs between images."""

    def __call__(self, rng: np.random.RandomState, image: "Image.Image") -> "Image.Image":
        """Return the transformed `image`."""
        return apply_window(image, self.window(rng, image.size))


def full_window(size: Size) -> CropWindow:
    """Return the window of the whole image at its own size."""
    return CropWindow(0, 0, *size, size)


def compose_windows(first: CropWindow, second: CropWindow) -> CropWindow:
    """Return the window on the original image that shows what `second` shows of the result of `first`."""
    across, down = first.width / first.size[0], first.height / first.size[1]
    left = first.size[0] - second.left - second.width if first.mirrored else second.left
    return CropWindow(
        left=first.left + left * across,
        top=first.top + second.top * down,
        width=second.width * across,
        height=second.height * down,
        size=second.size,
        mirrored=first.mirrored != second.mirrored,
    )


def apply_window(image: "Image.Image", window: CropWindow, size: Size | None = None) -> "Image.Image":
    """Return the part of `image` in `window`, scaled to its size: bilinear, antialiased where it shrinks.

    Pixels next to the window contribute at its edges, as if the whole image were resampled and then cropped.

    Args:
      image: the image, decoded at its original size or a smaller one.
      window: the window, in pixels of the original size.
      size: the original size; None for the size of `image`.
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


def jpeg_reduction(window: CropWindow) -> int:
    """Return the factor, 1, 2, 4 or 8, by which a JPEG may be decoded smaller for `window`, which costs less.

    The decoded window has at least twice the resolution of the result (Pillow's `reducing_gap` of 2). The resampling
    that follows then determines how it looks.
    """
    spare = min(window.width / window.size[0], window.height / window.size[1])
    return next((factor for factor in _REDUCTIONS if spare >= _GAP * factor), 1)
