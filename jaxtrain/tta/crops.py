"""Views at fixed positions: crops, shifts and mirror images."""

from collections.abc import Callable, Iterable
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.annotations import Interval, PositiveInt, Side
from jaxtrain.tta.base import BuildViews, Examples, TTASetup, ViewGroup, format_size, merge_duplicates

CropSize = Side | Annotated[float, Interval(above=0, most=1)]
"""Both sides in pixels, or as a fraction of the image."""


class Crop(NamedTuple):
    """The position of a crop.

    Attributes:
      top: first row.
      left: first column.
      mirrored: whether the crop is flipped left to right after it is cut.
    """

    top: int
    left: int
    mirrored: bool = False


def five_crops(outer: tuple[int, ...], inner: tuple[int, int]) -> list[Crop]:
    """Return the upper left, upper right, lower left and lower right corner, and the center, in torchvision's order.

    A half pixel at the center is rounded to the even side, as in torchvision.

    Raises:
      ValueError: the crops are larger than the image.
    """
    down, right = outer[0] - inner[0], outer[1] - inner[1]
    if min(down, right) < 0:
        raise ValueError(
            f"a crop of {format_size(inner)} does not fit in an image of {format_size(outer)}: "
            "make the crop smaller or the image larger"
        )
    return [Crop(0, 0), Crop(0, right), Crop(down, 0), Crop(down, right), Crop(round(down / 2), round(right / 2))]


def add_mirrored(crops: Iterable[Crop], flip: bool = True) -> list[Crop]:
    """Return the crops, followed by their mirror images if `flip` is true."""
    originals = list(crops)
    return [*originals, *(crop._replace(mirrored=not crop.mirrored) for crop in originals if flip)]


def crop_given(
    top: jax.Array, left: jax.Array, mirrored: jax.Array, images: jax.Array, size: tuple[int, int]
) -> jax.Array:
    """Cut `size` from `images[N, H, W, C]` at `top` and `left` int32[], flipped if `mirrored` bool[] is true."""
    zero = jnp.zeros_like(top)
    cut = jax.lax.dynamic_slice(images, (zero, top, left, zero), (images.shape[0], *size, images.shape[3]))
    return jnp.where(mirrored, cut[:, :, ::-1], cut)


def crop_group(
    prepare: Callable[[Examples], jax.Array],
    crops: Iterable[Crop],
    size: tuple[int, int],
    share: float,
    then: Callable[[jax.Array], jax.Array] = lambda images: images,
) -> ViewGroup:
    """Return the group of the crops of the images that `prepare` returns.

    Args:
      prepare: the function from `Examples` to images.
      crops: the positions.
      size: height and width of a crop.
      share: the weight of the group in the mean.
      then: a function applied to each crop.
    """
    positions, shares = merge_duplicates(crops, share)
    tops, lefts = (np.array([position[axis] for position in positions], np.int32) for axis in (0, 1))
    mirrored = np.array([position.mirrored for position in positions])

    def view(images: jax.Array, index: jax.Array) -> jax.Array:
        top, left, mirror = (jnp.asarray(values)[index] for values in (tops, lefts, mirrored))
        return then(crop_given(top, left, mirror, images, size))

    return ViewGroup(shares, prepare, view)


def normalize_images(examples: Examples) -> jax.Array:
    """Return the normalized images."""
    return examples.images


def flips() -> BuildViews:
    """Build two views: the image and its mirror image, left to right.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain.tta
      >>> from jaxtrain.tta.base import TTASetup
      >>> setting = TTASetup(image_shape=(1, 3, 1), model=None, normalize=lambda pixels: pixels / 255)
      >>> (group,) = jaxtrain.tta.flips()(setting)
      >>> image = jnp.arange(3.0).reshape(1, 1, 3, 1)
      >>> [(share, group.view(image, jnp.int32(i)).ravel().tolist()) for i, share in enumerate(group.shares)]
      [(0.5, [0.0, 1.0, 2.0]), (0.5, [2.0, 1.0, 0.0])]
    """

    def build_groups(setting: TTASetup) -> tuple[ViewGroup, ...]:
        return (crop_group(normalize_images, add_mirrored([Crop(0, 0)]), setting.image_shape[:2], 1.0),)

    return build_groups


def shifted_flips(pixels: PositiveInt = 1) -> BuildViews:
    """Build 6 views: the image, the image shifted up left and down right, and the mirror image of each.

    The unshifted image has half of the weight (Jordan 2024, section 3.5). The image is reflected at its edges.

    Args:
      pixels: the shift along both axes in pixels.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain.tta
      >>> from jaxtrain.tta.base import TTASetup
      >>> setting = TTASetup(image_shape=(32, 32, 3), model=None, normalize=lambda pixels: pixels / 255)
      >>> [group.shares for group in jaxtrain.tta.shifted_flips(pixels=1)(setting)]
      [(0.25, 0.25), (0.125, 0.125, 0.125, 0.125)]
    """

    def build_groups(setting: TTASetup) -> tuple[ViewGroup, ...]:
        h, w = setting.image_shape[:2]
        if pixels >= min(h, w):
            raise ValueError(f"pixels={pixels} must be smaller than the sides of the image, {h}x{w}")
        widths = ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0))

        def pad(examples: Examples) -> jax.Array:
            return jnp.pad(examples.images, widths, mode="reflect")

        shifted = add_mirrored([Crop(0, 0), Crop(2 * pixels, 2 * pixels)])
        unshifted = crop_group(normalize_images, add_mirrored([Crop(0, 0)]), (h, w), 0.5)
        return unshifted, crop_group(pad, shifted, (h, w), 0.5)

    return build_groups


def ten_crop(size: CropSize = 0.875, flip: bool = True) -> BuildViews:
    """Build 10 views: the four corners and the center of the image, and their mirror images.

    Args:
      size: side of a crop in pixels, or as a fraction of each side (224 of 256 is 0.875). A model whose parameters fit
        one image size does not accept smaller crops; enlarge the image first, with `multi_scale`.
      flip: whether to add the mirror images; turn it off for images such as digits, whose mirror images are not valid.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain.tta
      >>> from jaxtrain.tta.base import TTASetup
      >>> setting = TTASetup(image_shape=(32, 32, 3), model=None, normalize=lambda pixels: pixels / 255)
      >>> (group,) = jaxtrain.tta.ten_crop(28)(setting)
      >>> len(group.shares), group.view(jnp.zeros((1, 32, 32, 3)), jnp.int32(4)).shape
      (10, (1, 28, 28, 3))
    """

    def build_groups(setting: TTASetup) -> tuple[ViewGroup, ...]:
        h, w = setting.image_shape[:2]
        side = (size, size) if isinstance(size, int) else (max(round(h * size), 1), max(round(w * size), 1))
        return (crop_group(normalize_images, add_mirrored(five_crops((h, w), side), flip), side, 1.0),)

    return build_groups
