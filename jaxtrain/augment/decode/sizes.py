"""Decode transforms that show the whole image, or nearly so: scaling and flips."""

import dataclasses

import numpy as np

from jaxtrain.annotations import Probability, Side
from jaxtrain.augment.decode.window import CropWindow, DecodeTransform, Size, full_window


@dataclasses.dataclass(frozen=True)
class _ResizeShort(DecodeTransform):
    low: int
    high: int

    def random(self) -> bool:
        return self.high > self.low

    def window(self, rng: np.random.RandomState, size: Size) -> CropWindow:
        short = int(rng.randint(self.low, self.high + 1)) if self.random() else self.low
        return full_window(size)._replace(size=_scale_shorter_side(size, short))

    def result(self, size: Size | None) -> Size | None:
        return None if size is None or self.random() else _scale_shorter_side(size, self.low)


@dataclasses.dataclass(frozen=True)
class _Resize(DecodeTransform):
    size: Size

    def random(self) -> bool:
        return False

    def window(self, rng: np.random.RandomState, size: Size) -> CropWindow:
        return full_window(size)._replace(size=self.size)

    def result(self, size: Size | None) -> Size:
        return self.size


@dataclasses.dataclass(frozen=True)
class _Fit(DecodeTransform):
    size: Size

    def random(self) -> bool:
        return False

    def window(self, rng: np.random.RandomState, size: Size) -> CropWindow:
        # The same arithmetic in the same order as ImageOps.fit, which scales images when they are loaded into memory.
        width, height = float(size[0]), float(size[1])
        aspect, target = size[0] / size[1], self.size[0] / self.size[1]
        if aspect > target:
            width = target * height
        elif aspect < target:
            height = width / target
        return CropWindow((size[0] - width) * 0.5, (size[1] - height) * 0.5, width, height, self.size)

    def result(self, size: Size | None) -> Size:
        return self.size


@dataclasses.dataclass(frozen=True)
class _Flip(DecodeTransform):
    probability: float

    def random(self) -> bool:
        return 0 < self.probability < 1

    def window(self, rng: np.random.RandomState, size: Size) -> CropWindow:
        return full_window(size)._replace(mirrored=bool(rng.random_sample() < self.probability))

    def result(self, size: Size | None) -> Size | None:
        return size


def resize_short(size: Side, high: Side | None = None) -> DecodeTransform:
    """Scale, with the aspect ratio kept, until the shorter side has `size` pixels, or a number drawn from [size, high].

    The longer side is rounded down, as in torchvision. Simonyan & Zisserman 2015, section 3.1, and He et al. 2015 draw
    from [256, 480] and take a random crop of 224.

    Args:
      size: the shorter side in pixels, or the lower bound of the draw.
      high: the upper bound of the draw; None for a fixed size.

    Example:
      >>> import numpy as np, jaxtrain.augment.decode
      >>> from PIL import Image
      >>> transform = jaxtrain.augment.decode.resize_short(256)
      >>> transform(np.random.RandomState(0), Image.new("RGB", (500, 375))).size
      (341, 256)
    """
    if high is not None and high < size:
        raise ValueError(f"size={size} is above high={high}; write the lower bound first")
    return _ResizeShort(size, size if high is None else high)


def resize(height: Side, width: Side) -> DecodeTransform:
    """Scale to `height` and `width`; the aspect ratio may change.

    Args:
      height: height of the result in pixels.
      width: width of the result in pixels.

    Example:
      >>> import numpy as np, jaxtrain.augment.decode
      >>> from PIL import Image
      >>> transform = jaxtrain.augment.decode.resize(height=224, width=320)
      >>> transform(np.random.RandomState(0), Image.new("RGB", (500, 375))).size
      (320, 224)
    """
    return _Resize((width, height))


def fit(height: Side, width: Side) -> DecodeTransform:
    """Scale, with the aspect ratio kept, until `height` and `width` are just covered, and crop the rest evenly.

    Data sets in memory do this to their images when they are loaded.

    Args:
      height: height of the result in pixels.
      width: width of the result in pixels.

    Example:
      >>> import numpy as np, jaxtrain.augment.decode
      >>> jaxtrain.augment.decode.fit(height=224, width=224).window(np.random.RandomState(0), size=(500, 375))
      CropWindow(left=62.5, top=0.0, width=375.0, height=375.0, size=(224, 224), mirrored=False)
    """
    return _Fit((width, height))


def flip_lr(p: Probability = 0.5) -> DecodeTransform:
    """Flip left to right with probability `p`.

    Args:
      p: the probability that an image is flipped.

    Example:
      >>> import numpy as np, jaxtrain.augment.decode
      >>> from PIL import Image
      >>> image = Image.fromarray(np.array([[1, 2, 3]], np.uint8))
      >>> np.asarray(jaxtrain.augment.decode.flip_lr(p=1.0)(np.random.RandomState(0), image)).tolist()
      [[3, 2, 1]]
    """
    return _Flip(p)


def _scale_shorter_side(size: Size, short: int) -> Size:
    """Return `size` scaled to the shorter side `short`; the longer side is rounded down."""
    width, height = size
    return (short, short * height // width) if width <= height else (short * width // height, short)
