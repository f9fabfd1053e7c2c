"""Augmentations on the host that show the whole picture, or nearly so: scaling and mirroring."""

import dataclasses

import numpy as np

from jaxtrain.annotations import Probability, Side
from jaxtrain.augment.decode.window import HostAugmentation, Size, Window, whole


@dataclasses.dataclass(frozen=True)
class _ResizeShort(HostAugmentation):
    low: int
    high: int

    def random(self) -> bool:
        return self.high > self.low

    def window(self, draws: np.random.RandomState, size: Size) -> Window:
        short = int(draws.randint(self.low, self.high + 1)) if self.random() else self.low
        return whole(size)._replace(size=_shortened(size, short))

    def result(self, size: Size | None) -> Size | None:
        return None if size is None or self.random() else _shortened(size, self.low)


@dataclasses.dataclass(frozen=True)
class _Resize(HostAugmentation):
    size: Size

    def random(self) -> bool:
        return False

    def window(self, draws: np.random.RandomState, size: Size) -> Window:
        return whole(size)._replace(size=self.size)

    def result(self, size: Size | None) -> Size:
        return self.size


@dataclasses.dataclass(frozen=True)
class _Fit(HostAugmentation):
    size: Size

    def random(self) -> bool:
        return False

    def window(self, draws: np.random.RandomState, size: Size) -> Window:
        # The same numbers in the same order as ImageOps.fit, by which images are made equal when they are loaded.
        width, height = float(size[0]), float(size[1])
        here, there = size[0] / size[1], self.size[0] / self.size[1]
        if here > there:
            width = there * height
        elif here < there:
            height = width / there
        return Window((size[0] - width) * 0.5, (size[1] - height) * 0.5, width, height, self.size)

    def result(self, size: Size | None) -> Size:
        return self.size


@dataclasses.dataclass(frozen=True)
class _Flip(HostAugmentation):
    probability: float

    def random(self) -> bool:
        return 0 < self.probability < 1

    def window(self, draws: np.random.RandomState, size: Size) -> Window:
        return whole(size)._replace(mirrored=bool(draws.random_sample() < self.probability))

    def result(self, size: Size | None) -> Size | None:
        return size


def resize_short(size: Side, high: Side | None = None) -> HostAugmentation:
    """Scales, aspect kept, until the shorter side is of `size` pixels, or of a number drawn from [size, high].

    The longer side is rounded down, as torchvision does. Simonyan & Zisserman 2015, section 3.1, and He et al. 2015
    draw from [256, 480] and take a random crop of 224.
    """
    if high is not None and high < size:
        raise ValueError(f"resize_short goes from {size} to {high}; write the lower bound first")
    return _ResizeShort(size, size if high is None else high)


def resize(height: Side, width: Side) -> HostAugmentation:
    """Scales to `height` and `width`; the aspect changes where it has to."""
    return _Resize((width, height))


def fit(height: Side, width: Side) -> HostAugmentation:
    """Scales, aspect kept, until `height` and `width` are just covered, and cuts what stands over off evenly.

    It is what data sets held in memory do to their images when they are loaded.
    """
    return _Fit((width, height))


def flip_lr(p: Probability = 0.5) -> HostAugmentation:
    """Mirrors left to right with probability `p`."""
    return _Flip(p)


def _shortened(size: Size, short: int) -> Size:
    width, height = size
    return (short, short * height // width) if width <= height else (short * width // height, short)
