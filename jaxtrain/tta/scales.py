"""Views at several image sizes: ten crops of each, or a dense (fully convolutional) evaluation."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax

from jaxtrain.annotations import Side
from jaxtrain.models.score_maps import mean_scores
from jaxtrain.tta.base import BuildViews, Examples, Shape, TTASetup, ViewGroup
from jaxtrain.tta.crops import Crop, add_mirrored, crop_group, five_crops, normalize_images


def shorter_side(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    """Return height and width after scaling the shorter side of `shape` to `side`; the other is rounded down."""
    h, w = shape[:2]
    return (side, side * w // h) if h <= w else (side * h // w, side)


def resize(images: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Resize `images` f32[N, H, W, C] to `size`: bilinear, antialiased where they shrink."""
    if images.shape[1:3] == size:
        return images
    return jax.image.resize(images, (images.shape[0], *size, images.shape[3]), "bilinear", antialias=True)


def resize_to(size: tuple[int, int]) -> Callable[[Examples], jax.Array]:
    """Return a function from `Examples` to their normalized images at `size`."""
    return lambda examples: resize(examples.images, size)


def check_scales(scales: tuple[int, ...]) -> tuple[int, ...]:
    """Return `scales`; raise `ValueError` if there are none or one occurs twice."""
    if not scales or len(set(scales)) < len(scales):
        raise ValueError(f"scales={list(scales)} must contain at least one size, and each size once")
    return scales


def multi_scale(
    scales: tuple[Side, ...] = (224, 256, 384, 480, 640),
    crops: Literal["ten", "dense"] = "ten",
    size: Side = 224,
    flip: bool = True,
) -> BuildViews:
    """Build views at several image sizes, each size with the same weight in the mean.

    Args:
      scales: lengths of the shorter side in pixels.
      crops: "ten" for ten crops at each scale, or "dense" for the fully convolutional form: the model at all positions
        of the resized image and of its mirror image; see `dense`.
      size: side of the ten crops in pixels.
      flip: whether to add the mirror images.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain.tta
      >>> from jaxtrain.tta.base import TTASetup
      >>> setting = TTASetup(image_shape=(256, 256, 3), model=None, normalize=lambda pixels: pixels / 255)
      >>> groups = jaxtrain.tta.multi_scale(scales=(256, 384), size=224)(setting)
      >>> [len(group.shares) for group in groups]
      [10, 10]
    """
    if crops == "dense":
        return dense(check_scales(scales), flip)
    check_scales(scales)

    def build_groups(setting: TTASetup) -> tuple[ViewGroup, ...]:
        groups = []
        for scale in scales:
            outer, inner = shorter_side(setting.image_shape, scale), (size, size)
            positions = add_mirrored(five_crops(outer, inner), flip)
            groups.append(crop_group(resize_to(outer), positions, inner, 1 / len(scales)))
        return tuple(groups)

    return build_groups


def dense(scales: tuple[Side, ...] = (), flip: bool = True) -> BuildViews:
    """Build a view of the whole image, on which the model's class scores at all positions are averaged.

    The mean is taken before the softmax. Dense layers after a flattened feature map are applied as convolutions
    (`jaxtrain.models.score_maps`). For a model that ends in global average pooling, the mean of the scores is the score
    of the mean, so it is applied unchanged.

    Args:
      scales: lengths of the shorter side in pixels, with equal weights; empty for the image at its own size.
      flip: whether to average the probabilities with those of the mirror image.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain.tta
      >>> from jaxtrain.tta.base import TTASetup
      >>> setting = TTASetup(image_shape=(32, 32, 3), model=None, normalize=lambda pixels: pixels / 255)
      >>> [group.shares for group in jaxtrain.tta.dense(scales=(32, 48))(setting)]
      [(0.25, 0.25), (0.25, 0.25)]
    """

    def build_groups(setting: TTASetup) -> tuple[ViewGroup, ...]:
        own = setting.image_shape[:2]
        sizes = [shorter_side(own, scale) for scale in check_scales(scales)] if scales else [own]
        whole, score = add_mirrored([Crop(0, 0)], flip), _score_all_positions(setting.image_shape)
        groups = []
        for size in sizes:
            group = crop_group(resize_to(size) if scales else normalize_images, whole, size, 1 / len(sizes))
            groups.append(dataclasses.replace(group, score=score))
        return tuple(groups)

    return build_groups


def _score_all_positions(shape: Shape) -> Callable[[Any, Mapping[str, Any], jax.Array], jax.Array]:
    """Return a score function that averages class scores over all positions, for a model trained on `shape`."""
    return lambda model, variables, images: mean_scores(model, variables, images, shape)
