"""What is done once to the images of a data set: resizing, padding, and fitting the normalization."""

import dataclasses
from typing import Literal, Self

import numpy as np

from jaxtrain.errors import DataError


def resized_shape(shape: tuple[int, int, int], resize: tuple[int, int] | None, pad: int) -> tuple[int, int, int]:
    """Height, width and channels after `resize` and then `pad`."""
    height, width = resize or shape[:2]
    return height + 2 * pad, width + 2 * pad, shape[2]


def resize_images(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`images` uint8[N, H, W, C] resampled to `size` (height, width), bilinear, antialiased when shrinking."""
    from PIL import Image

    if images.shape[1:3] == size:
        return images
    result = np.empty((len(images), *size, images.shape[3]), np.uint8)
    for image, out in zip(images, result, strict=True):
        for channel in range(images.shape[3]):
            plane = Image.fromarray(image[:, :, channel])
            out[:, :, channel] = np.asarray(plane.resize((size[1], size[0]), Image.Resampling.BILINEAR))
    return result


def pad_images(images: np.ndarray, pad: int) -> np.ndarray:
    """`images` uint8[N, H, W, C] with `pad` pixels of 0 on each side."""
    return np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0))) if pad else images


@dataclasses.dataclass(frozen=True)
class Normalization:
    """Per-channel `mean` and `std` of pixels in [0, 1]; an image becomes `(pixel / 255 - mean) / std`."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def fit(cls, images: np.ndarray, kind: Literal["mean_std", "mean", "scale"]) -> Self:
        """Fitted on `images` uint8[N, H, W, C]; sums are integers, so the result does not depend on any order."""
        channels = images.shape[3]
        if kind == "scale":
            return cls((0.0,) * channels, (1.0,) * channels)
        if not len(images):
            raise DataError("there are no training images to fit the normalization on")
        values = np.arange(256, dtype=np.uint64)
        means, stds = [], []
        for channel in range(channels):
            counts = np.bincount(images[:, :, :, channel].reshape(-1), minlength=256).astype(np.uint64)
            n = int(counts.sum())
            first, second = int((counts * values).sum()), int((counts * values * values).sum())
            variance = (second * n - first * first) / (n * n)  # exact integers above the line
            means.append(first / n / 255)
            stds.append(variance**0.5 / 255 if kind == "mean_std" and variance > 0 else 1.0)
        return cls(tuple(means), tuple(stds))
