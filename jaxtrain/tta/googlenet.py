"""The 144 views with which GoogLeNet was tested (Szegedy et al. 2015, section 7)."""

import jax

from jaxtrain.annotations import Side
from jaxtrain.tta.base import BuildViews, TTASetup, ViewGroup
from jaxtrain.tta.crops import Crop, add_mirrored, crop_group, five_crops
from jaxtrain.tta.scales import check_scales, resize, resize_to, shorter_side


def largest_squares(shape: tuple[int, int]) -> list[Crop]:
    """Return the positions of the three largest squares of an image: left, center, right, or top, center, bottom."""
    h, w = shape
    side = min(h, w)
    return [Crop(round((h - side) * part), round((w - side) * part)) for part in (0, 0.5, 1)]


def crops_of_squares(shape: tuple[int, int], size: int) -> list[Crop]:
    """Return the corners and the center of each square: 15 crops of `size` x `size`."""
    side = min(shape)
    return [
        Crop(square.top + crop.top, square.left + crop.left)
        for square in largest_squares(shape)
        for crop in five_crops((side, side), (size, size))
    ]


def googlenet_crops(scales: tuple[Side, ...] = (256, 288, 320, 352), size: Side = 224, flip: bool = True) -> BuildViews:
    """Build views of three squares at each scale: the corners, the center and the resized whole, also mirrored.

    There are 36 views for each scale, 144 in all. The three squares of a square image are the same and computed once.

    Args:
      scales: lengths of the shorter side in pixels.
      size: side of a view in pixels.
      flip: whether to add the mirror images.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain.tta
      >>> from jaxtrain.tta.base import TTASetup
      >>> setting = TTASetup(image_shape=(256, 341, 3), model=None, normalize=lambda pixels: pixels / 255)
      >>> groups = jaxtrain.tta.googlenet_crops()(setting)
      >>> sum(len(group.shares) for group in groups)
      144
    """
    check_scales(scales)

    def shrink(images: jax.Array) -> jax.Array:
        return resize(images, (size, size))

    def build_groups(setting: TTASetup) -> tuple[ViewGroup, ...]:
        groups = []
        for scale in scales:
            shape = shorter_side(setting.image_shape, scale)
            prepare, share = resize_to(shape), 1 / len(scales)
            crops = add_mirrored(crops_of_squares(shape, size), flip)
            groups.append(crop_group(prepare, crops, (size, size), share * 5 / 6))
            whole_squares = add_mirrored(largest_squares(shape), flip)
            groups.append(crop_group(prepare, whole_squares, (scale, scale), share / 6, shrink))
        return tuple(groups)

    return build_groups
