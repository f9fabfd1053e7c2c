"""Augmentations on the host that show a part of the picture, of one size for all pictures."""

import dataclasses
import math
from typing import Annotated

import numpy as np

from jaxtrain.annotations import Interval, Side
from jaxtrain.augment.decode.window import HostAugmentation, Size, Window
from jaxtrain.augment.options import Ratios, ordered

Area = Annotated[float, Interval(above=0, most=1)]
"""A part of the picture's area."""
Sides = Side | tuple[Side, Side]
"""One number for a square, or height and width."""

_TRIES = 10


@dataclasses.dataclass(frozen=True)
class _Crop(HostAugmentation):
    size: Size
    anywhere: bool

    def random(self) -> bool:
        return self.anywhere

    def window(self, draws: np.random.RandomState, size: Size) -> Window:
        # A picture that the crop does not fit in counts as enlarged until it does: a smaller part of it is taken.
        scale = min(size[0] / self.size[0], size[1] / self.size[1], 1.0)
        if scale == 1:
            width, height = self.size
            left, top = (self._whole_offset(draws, s - c) for s, c in zip(size, self.size, strict=True))
            return Window(left, top, width, height, self.size)
        wide, high = self.size[0] * scale, self.size[1] * scale
        shares = draws.random_sample(2) if self.anywhere else (0.5, 0.5)
        return Window(float(shares[0]) * (size[0] - wide), float(shares[1]) * (size[1] - high), wide, high, self.size)

    def _whole_offset(self, draws: np.random.RandomState, most: int) -> int:
        return int(draws.randint(0, most + 1)) if self.anywhere else most // 2

    def result(self, size: Size | None) -> Size:
        return self.size


@dataclasses.dataclass(frozen=True)
class _ResizedCrop(HostAugmentation):
    size: Size
    area: tuple[float, float]
    aspect: tuple[float, float]

    def window(self, draws: np.random.RandomState, size: Size) -> Window:
        width, height = size
        logs = math.log(self.aspect[0]), math.log(self.aspect[1])
        for _ in range(_TRIES):
            area = width * height * draws.uniform(*self.area)
            aspect = math.exp(draws.uniform(*logs))
            wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < wide <= width and 0 < high <= height:
                top, left = draws.randint(0, height - high + 1), draws.randint(0, width - wide + 1)
                return Window(int(left), int(top), wide, high, self.size)
        wide, high = _nearest(size, self.aspect)
        return Window((width - wide) // 2, (height - high) // 2, wide, high, self.size)

    def result(self, size: Size | None) -> Size:
        return self.size


def center_crop(size: Sides) -> HostAugmentation:
    """The `size` pixels (height and width, or one number for both) in the center.

    A picture that is smaller counts as enlarged, aspect kept, until it covers them.
    """
    return _Crop(_pair(size), anywhere=False)


def random_crop(size: Sides) -> HostAugmentation:
    """`size` pixels (height and width, or one number for both) at a place drawn uniformly.

    A picture that is smaller counts as enlarged, aspect kept, until it covers them.
    """
    return _Crop(_pair(size), anywhere=True)


def random_resized_crop(
    size: Sides, area: tuple[Area, Area] = (0.08, 1.0), aspect: Ratios = (3 / 4, 4 / 3)
) -> HostAugmentation:
    """A part of the picture of random area and aspect, scaled to `size`.

    The paper names the two ranges; how they are drawn is as torchvision's `RandomResizedCrop` has it: ten tries, then
    the largest part in the center whose aspect is in range.

    Args:
      size: height and width of the result, or one number for both.
      area: bounds of the part's area, as fractions of the picture's; drawn uniformly.
      aspect: bounds of its width over its height; drawn uniformly in the logarithm.
    """
    return _ResizedCrop(_pair(size), ordered(area, "area"), ordered(aspect, "aspect"))


def _pair(size: int | tuple[int, int]) -> Size:
    height, width = size if isinstance(size, tuple) else (size, size)
    return width, height


def _nearest(size: Size, aspect: tuple[float, float]) -> Size:
    """The largest part of a picture whose aspect is in range."""
    width, height = size
    if width / height < aspect[0]:
        return width, max(round(width / aspect[0]), 1)
    if width / height > aspect[1]:
        return max(round(height * aspect[1]), 1), height
    return size
