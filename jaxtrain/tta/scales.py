"""Several sizes of an image: ten crops of each, or the model at all places at once."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax

from jaxtrain.annotations import Side
from jaxtrain.models.score_maps import mean_scores
from jaxtrain.tta.base import Examples, Group, Setting, Shape, Views
from jaxtrain.tta.crops import Crop, crop_group, five_crops, images_of, with_mirrored


def shorter_side(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    """Height and width after resizing the shorter side of `shape` to `side`; the other is rounded down."""
    h, w = shape[:2]
    return (side, side * w // h) if h <= w else (side * h // w, side)


def resized(images: jax.Array, size: tuple[int, int]) -> jax.Array:
    """`images` f32[N, H, W, C] resampled to `size`, bilinear, with antialiasing where they shrink."""
    if images.shape[1:3] == size:
        return images
    return jax.image.resize(images, (images.shape[0], *size, images.shape[3]), "bilinear", antialias=True)


def at_size(size: tuple[int, int]) -> Callable[[Examples], jax.Array]:
    """The normalized images of a batch at `size`."""
    return lambda examples: resized(examples.images, size)


def ordered_scales(scales: tuple[int, ...]) -> tuple[int, ...]:
    """The scales, where there are some and none twice."""
    if not scales or len(set(scales)) < len(scales):
        raise ValueError(f"scales={list(scales)} must name one size at least, and each of them once")
    return scales


def multi_scale(
    scales: tuple[Side, ...] = (224, 256, 384, 480, 640),
    crops: Literal["ten", "dense"] = "ten",
    size: Side = 224,
    flip: bool = True,
) -> Views:
    """Several sizes of the image, each with the same share of the mean.

    Args:
      scales: pixels of the shorter side.
      crops: "ten" of each scale, or "dense", the fully convolutional form: the model at all places of the resized
        image and of its mirror image, as `dense` has it.
      size: pixels of both sides of the ten crops.
      flip: whether the mirror images are there.
    """
    if crops == "dense":
        return dense(ordered_scales(scales), flip)
    ordered_scales(scales)

    def groups(setting: Setting) -> tuple[Group, ...]:
        found = []
        for scale in scales:
            outer, inner = shorter_side(setting.image_shape, scale), (size, size)
            places = with_mirrored(five_crops(outer, inner), flip)
            found.append(crop_group(at_size(outer), places, inner, 1 / len(scales)))
        return tuple(found)

    return groups


def dense(scales: tuple[Side, ...] = (), flip: bool = True) -> Views:
    """The model at all places of the image at once, its class scores averaged over the places before the softmax.

    Dense layers that follow a flattened feature map are applied as convolutions (`jaxtrain.models.score_maps`). Where a
    model ends in a global average, the mean of its scores is the score of the mean: it is applied as it is.

    Args:
      scales: pixels of the shorter side, each with the same share of the mean; none for the image as it is.
      flip: whether probabilities are averaged with those of the mirror image.
    """

    def groups(setting: Setting) -> tuple[Group, ...]:
        own = setting.image_shape[:2]
        sizes = [shorter_side(own, scale) for scale in ordered_scales(scales)] if scales else [own]
        whole, score = with_mirrored([Crop(0, 0)], flip), _at_all_places(setting.image_shape)
        found = []
        for size in sizes:
            group = crop_group(at_size(size) if scales else images_of, whole, size, 1 / len(sizes))
            found.append(dataclasses.replace(group, score=score))
        return tuple(found)

    return groups


def _at_all_places(trained: Shape) -> Callable[[Any, Mapping[str, Any], jax.Array], jax.Array]:
    return lambda model, variables, images: mean_scores(model, variables, images, trained)
