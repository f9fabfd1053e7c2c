"""The composition of a list of decode transforms to one."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxtrain.augment.decode.crops import center_crop
from jaxtrain.augment.decode.sizes import fit, resize_short
from jaxtrain.augment.decode.window import CropWindow, DecodeTransform, Size, compose_windows, full_window


@dataclasses.dataclass(frozen=True)
class DecodeChain:
    """A composition of decode transforms; made by `chain`, which checks it.

    Attributes:
      parts: the transforms, in order.
      size: the width and height of every result.
    """

    parts: tuple[DecodeTransform, ...]
    size: Size

    def random(self) -> bool:
        """Return whether any transform draws random numbers."""
        return any(part.random() for part in self.parts)

    def window(self, rng: np.random.RandomState, size: Size) -> CropWindow:
        """Return the window on an image of `size`; the parts draw their numbers from `rng` in order."""
        composed = full_window(size)
        for part in self.parts:
            composed = compose_windows(composed, part.window(rng, composed.size))
        return composed


def compose_transforms(parts: Sequence[DecodeTransform]) -> DecodeChain:
    """Return the composition of `parts`.

    Raises:
      ValueError: the results would differ in size between images.

    Example:
      >>> import numpy as np, jaxtrain.augment.decode
      >>> from jaxtrain.augment.decode.chain import compose_transforms
      >>> parts = [jaxtrain.augment.decode.resize_short(256), jaxtrain.augment.decode.center_crop(224)]
      >>> compose_transforms(parts).window(np.random.RandomState(0), size=(512, 512))
      CropWindow(left=32.0, top=32.0, width=448.0, height=448.0, size=(224, 224), mirrored=False)
    """
    size: Size | None = None
    for part in parts:
        size = part.result(size)
    if size is None:
        raise ValueError(
            "the resulting images would differ in size; end the transforms with random_crop(224), center_crop(224), "
            "resize(224, 224) or another transform to a fixed size"
        )
    return DecodeChain(tuple(parts), size)


def default_eval_chain(training: DecodeChain) -> DecodeChain:
    """Return the default transform of validation and test images, with results of the same size as those of `training`.

    It is `training` itself if that draws no random numbers. Otherwise the shorter side is scaled to 8/7 of the size and
    the center is cropped (256 and 224, He et al. 2015). If height and width differ, it is `fit` instead.
    """
    if not training.random():
        return training
    width, height = training.size
    if width != height:
        return compose_transforms([fit(height, width)])
    return compose_transforms([resize_short(round(width * 8 / 7)), center_crop(width)])
