"""Crops at fixed places, and mirror images."""

from collections.abc import Callable, Iterable
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.annotations import Interval, PositiveInt, Side
from jaxtrain.tta.base import Examples, Group, Setting, Views, distinct, in_words

CropSize = Side | Annotated[float, Interval(above=0, most=1)]
"""Pixels of both sides, or a fraction of each."""


class Crop(NamedTuple):
    """Where a crop begins, and whether it is mirrored left to right after it is cut."""

    top: int
    left: int
    mirrored: bool = False


def five_crops(outer: tuple[int, ...], inner: tuple[int, int]) -> list[Crop]:
    """Upper left, upper right, lower left and lower right corner, and the center, as torchvision orders them.

    Half a pixel at the center goes to the even side, as there.

    Raises:
      ValueError: for crops that are larger than the image.
    """
    down, right = outer[0] - inner[0], outer[1] - inner[1]
    if min(down, right) < 0:
        raise ValueError(
            f"a crop of {in_words(inner)} does not fit in an image of {in_words(outer)}: make the crop smaller or the "
            "image larger"
        )
    return [Crop(0, 0), Crop(0, right), Crop(down, 0), Crop(down, right), Crop(round(down / 2), round(right / 2))]


def with_mirrored(crops: Iterable[Crop], flip: bool = True) -> list[Crop]:
    """The crops, then with `flip` the mirror image of each."""
    found = list(crops)
    return [*found, *(crop._replace(mirrored=not crop.mirrored) for crop in found if flip)]


def crop_given(
    top: jax.Array, left: jax.Array, mirrored: jax.Array, images: jax.Array, size: tuple[int, int]
) -> jax.Array:
    """`size` of `images[N, H, W, C]` from `top` and `left` int32[] on, mirrored where bool[] says so."""
    zero = jnp.zeros_like(top)
    cut = jax.lax.dynamic_slice(images, (zero, top, left, zero), (images.shape[0], *size, images.shape[3]))
    return jnp.where(mirrored, cut[:, :, ::-1], cut)


def crop_group(
    prepare: Callable[[Examples], jax.Array],
    crops: Iterable[Crop],
    size: tuple[int, int],
    share: float,
    then: Callable[[jax.Array], jax.Array] = lambda images: images,
) -> Group:
    """The group of `crops` of what `prepare` gives, with `share` of the mean; `then` is done to each crop."""
    places, shares = distinct(crops, share)
    tops, lefts = (np.array([place[axis] for place in places], np.int32) for axis in (0, 1))
    mirrored = np.array([place.mirrored for place in places])

    def view(images: jax.Array, number: jax.Array) -> jax.Array:
        top, left, mirror = (jnp.asarray(values)[number] for values in (tops, lefts, mirrored))
        return then(crop_given(top, left, mirror, images, size))

    return Group(shares, prepare, view)


def images_of(examples: Examples) -> jax.Array:
    """The normalized images as they are."""
    return examples.images


def flips() -> Views:
    """The image and its mirror image, left to right."""

    def groups(setting: Setting) -> tuple[Group, ...]:
        return (crop_group(images_of, with_mirrored([Crop(0, 0)]), setting.image_shape[:2], 1.0),)

    return groups


def shifted_flips(pixels: PositiveInt = 1) -> Views:
    """The image, and the image moved up left and down right, each with its mirror image: 6 views.

    The image as it is has half of the mean (Jordan 2024, section 3.5). What moves in is mirrored at the edge.

    Args:
      pixels: by how many it is moved along both axes.
    """

    def groups(setting: Setting) -> tuple[Group, ...]:
        h, w = setting.image_shape[:2]
        if pixels >= min(h, w):
            raise ValueError(f"an image of {h}x{w} cannot be moved by {pixels} pixels")
        widths = ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0))

        def padded(examples: Examples) -> jax.Array:
            return jnp.pad(examples.images, widths, mode="reflect")

        moved = with_mirrored([Crop(0, 0), Crop(2 * pixels, 2 * pixels)])
        still = crop_group(images_of, with_mirrored([Crop(0, 0)]), (h, w), 0.5)
        return still, crop_group(padded, moved, (h, w), 0.5)

    return groups


def ten_crop(size: CropSize = 0.875, flip: bool = True) -> Views:
    """The four corners and the center of the image, and their mirror images: 10 views.

    Args:
      size: of a crop: pixels of both sides, or a fraction of each (224 of 256 is 0.875). A model whose parameters fit
        images of one size takes no smaller crops; enlarge the image first, with `multi_scale`.
      flip: whether the mirror images are there; a mirrored digit is none.
    """

    def groups(setting: Setting) -> tuple[Group, ...]:
        h, w = setting.image_shape[:2]
        side = (size, size) if isinstance(size, int) else (max(round(h * size), 1), max(round(w * size), 1))
        return (crop_group(images_of, with_mirrored(five_crops((h, w), side), flip), side, 1.0),)

    return groups
