"""A list of augmentations on the host as one: a function from numbers and the size of a picture to a window on it."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxtrain.augment.decode.crops import center_crop
from jaxtrain.augment.decode.sizes import fit, resize_short
from jaxtrain.augment.decode.window import HostAugmentation, Size, Window, compose, whole


@dataclasses.dataclass(frozen=True)
class Chain:
    """`parts` in their order; `size` is that of every result. Made by `chain`, which checks."""

    parts: tuple[HostAugmentation, ...]
    size: Size

    def random(self) -> bool:
        """Whether it draws anything."""
        return any(part.random() for part in self.parts)

    def window(self, draws: np.random.RandomState, size: Size) -> Window:
        """The window on a picture of `size`; the parts take their numbers from `draws` one after the other."""
        found = whole(size)
        for part in self.parts:
            found = compose(found, part.window(draws, found.size))
        return found


def chain(parts: Sequence[HostAugmentation]) -> Chain:
    """`parts` as one; `ValueError` where their results are not of one size for pictures of any size."""
    size: Size | None = None
    for part in parts:
        size = part.result(size)
    if size is None:
        raise ValueError(
            "the images that come out of it differ in size; end it with one of random_crop(224), center_crop(224), "
            "resize(224, 224) or the like"
        )
    return Chain(tuple(parts), size)


def evaluation_chain(training: Chain) -> Chain:
    """What is done to validation and test images where nothing else is said, of the size of `training`.

    It is `training` itself where that draws nothing. Otherwise the shorter side is scaled to 8/7 of the size and the
    center taken (256 and 224, He et al. 2015), or, where height and width differ, `fit` is used.
    """
    if not training.random():
        return training
    width, height = training.size
    if width != height:
        return chain([fit(height, width)])
    return chain([resize_short(round(width * 8 / 7)), center_crop(width)])
