"""Resizing and padding of images at loading."""

import numpy as np


def output_shape(shape: tuple[int, int, int], resize: tuple[int, int] | None, pad: int) -> tuple[int, int, int]:
    """Return the height, width and channels after `resize` and then `pad`."""
    height, width = resize or shape[:2]
    return height + 2 * pad, width + 2 * pad, shape[2]


def resize_images(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resample `images` uint8[N, H, W, C] to `size` (height, width), bilinear, with antialiasing when shrinking."""
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
    """Pad `images` uint8[N, H, W, C] with `pad` zero pixels on each side."""
    return np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0))) if pad else images
