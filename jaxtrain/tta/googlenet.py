"""The 144 crops with which GoogLeNet was tested (Szegedy et al. 2015, section 7)."""

import jax

from jaxtrain.annotations import Side
from jaxtrain.tta.base import Group, Setting, Views
from jaxtrain.tta.crops import Crop, crop_group, five_crops, with_mirrored
from jaxtrain.tta.scales import at_size, ordered_scales, resized, shorter_side


def squares(shape: tuple[int, int]) -> list[Crop]:
    """Where the three largest squares of an image begin: left, center and right, or top, center and bottom."""
    h, w = shape
    side = min(h, w)
    return [Crop(round((h - side) * part), round((w - side) * part)) for part in (0, 0.5, 1)]


def crops_of_squares(shape: tuple[int, int], size: int) -> list[Crop]:
    """The corners and the center of each square: 15 crops of `size` x `size`."""
    side = min(shape)
    return [
        Crop(square.top + crop.top, square.left + crop.left)
        for square in squares(shape)
        for crop in five_crops((side, side), (size, size))
    ]


def googlenet_crops(scales: tuple[Side, ...] = (256, 288, 320, 352), size: Side = 224, flip: bool = True) -> Views:
    """For each scale, three squares; of each the corners, the center, and the whole, resized; all of them mirrored.

    That is 36 views a scale, 144 in all. Of a square image the three squares are the same, and looked at once.

    Args:
      scales: pixels to which the shorter side is resized.
      size: pixels of both sides of a view.
      flip: whether the mirror images are there.
    """
    ordered_scales(scales)

    def shrink(images: jax.Array) -> jax.Array:
        return resized(images, (size, size))

    def groups(setting: Setting) -> tuple[Group, ...]:
        found = []
        for scale in scales:
            shape = shorter_side(setting.image_shape, scale)
            prepare, share = at_size(shape), 1 / len(scales)
            crops = with_mirrored(crops_of_squares(shape, size), flip)
            found.append(crop_group(prepare, crops, (size, size), share * 5 / 6))
            wholes = with_mirrored(squares(shape), flip)
            found.append(crop_group(prepare, wholes, (scale, scale), share / 6, shrink))
        return tuple(found)

    return groups
