"""Decode transforms that crop a part of the image; the result has the same size for all images."""

import dataclasses
import math
from typing import Annotated

import numpy as np

from jaxtrain.annotations import Interval, Side
from jaxtrain.augment.decode.window import CropWindow, DecodeTransform, Size
from jaxtrain.augment.options import Ratios, check_order

Area = Annotated[float, Interval(above=0, most=1)]
"""A fraction of the image's area."""
Sides = Side | tuple[Side, Side]
"""One number for a square, or height and width."""

_TRIES = 10
"""The number of rectangles that `random_resized_crop` tries; torchvision's number."""


@dataclasses.dataclass(frozen=True)
class _Crop(DecodeTransform):
    size: Size
    anywhere: bool

    def random(self) -> bool:
        return self.anywhere

    def window(self, rng: np.random.RandomState, size: Size) -> CropWindow:
        # An image smaller than the crop is treated as enlarged until the crop fits, so a smaller part of it is taken.
        scale = min(size[0] / self.size[0], size[1] / self.size[1], 1.0)
        if scale == 1:
            width, height = self.size
            left, top = (self._draw_offset(rng, s - c) for s, c in zip(size, self.size, strict=True))
            return CropWindow(left, top, width, height, self.size)
        wide, high = self.size[0] * scale, self.size[1] * scale
        fractions = rng.random_sample(2) if self.anywhere else (0.5, 0.5)
        return CropWindow(
            float(fractions[0]) * (size[0] - wide), float(fractions[1]) * (size[1] - high), wide, high, self.size
        )

    def _draw_offset(self, rng: np.random.RandomState, largest: int) -> int:
        return int(rng.randint(0, largest + 1)) if self.anywhere else largest // 2

    def result(self, size: Size | None) -> Size:
        return self.size


@dataclasses.dataclass(frozen=True)
class _ResizedCrop(DecodeTransform):
    size: Size
    area: tuple[float, float]
    aspect: tuple[float, float]

    def window(self, rng: np.random.RandomState, size: Size) -> CropWindow:
        width, height = size
        logs = math.log(self.aspect[0]), math.log(self.aspect[1])
        for _ in range(_TRIES):
            area = width * height * rng.uniform(*self.area)
            aspect = math.exp(rng.uniform(*logs))
            wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < wide <= width and 0 < high <= height:
                top, left = rng.randint(0, height - high + 1), rng.randint(0, width - wide + 1)
                return CropWindow(int(left), int(top), wide, high, self.size)
        wide, high = _largest_in_range(size, self.aspect)
        return CropWindow((width - wide) // 2, (height - high) // 2, wide, high, self.size)

    def result(self, size: Size | None) -> Size:
        return self.size


def center_crop(size: Sides) -> DecodeTransform:
    """Crop `size` pixels from the center.

    A smaller image is treated as enlarged, with the aspect ratio kept, until it covers the crop.

    Args:
      size: height and width, or one number for both.

    Example:
      >>> import numpy as np, jaxtrain.augment.decode
      >>> jaxtrain.augment.decode.center_crop(224).window(np.random.RandomState(0), size=(500, 375))
      CropWindow(left=138, top=75, width=224, height=224, size=(224, 224), mirrored=False)
    """
    return _Crop(_pair(size), anywhere=False)


def random_crop(size: Sides) -> DecodeTransform:
    """Crop `size` pixels at a uniformly drawn position.

    A smaller image is treated as enlarged, with the aspect ratio kept, until it covers the crop.

    Args:
      size: height and width, or one number for both.

    Example:
      >>> import numpy as np, jaxtrain.augment.decode
      >>> jaxtrain.augment.decode.random_crop(224).window(np.random.RandomState(0), size=(500, 375))
      CropWindow(left=172, top=47, width=224, height=224, size=(224, 224), mirrored=False)
    """
    return _Crop(_pair(size), anywhere=True)


def random_resized_crop(
    size: Sides, area: tuple[Area, Area] = (0.08, 1.0), aspect: Ratios = (3 / 4, 4 / 3)
) -> DecodeTransform:
    """Crop a random area with a random aspect ratio, and scale it to `size`.

    The paper gives the two ranges. The draw is that of torchvision's `RandomResizedCrop`: ten tries, then the largest
    central part whose aspect ratio is in range.

    Args:
      size: height and width of the result, or one number for both.
      area: bounds of the crop's area, as fractions of the image's; drawn uniformly.
      aspect: bounds of the crop's width over its height; drawn uniformly in the logarithm.

    Example:
      >>> import numpy as np, jaxtrain.augment.decode
      >>> jaxtrain.augment.decode.random_resized_crop(224).window(np.random.RandomState(0), size=(500, 375))
      CropWindow(left=21, top=9, width=352, height=311, size=(224, 224), mirrored=False)
    """
    return _ResizedCrop(_pair(size), check_order(area, "area"), check_order(aspect, "aspect"))


def _pair(size: int | tuple[int, int]) -> Size:
    """Return `size` as width and height, in Pillow's order."""
    height, width = size if isinstance(size, tuple) else (size, size)
    return width, height


def _largest_in_range(size: Size, aspect: tuple[float, float]) -> Size:
    """Return the size of the largest part of an image of `size` whose aspect ratio is in range."""
    width, height = size
    if width / height < aspect[0]:
        return width, max(round(width / aspect[0]), 1)
    if width / height > aspect[1]:
        return max(round(height * aspect[1]), 1), height
    return size
