"""Functions that decode image files into arrays: orientation, color mode, resizing and cropping."""

import math
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image, ImageOps

from jaxtrain.augment.decode.window import CropWindow, Size, apply_window, jpeg_reduction
from jaxtrain.data.sources.files import reading
from jaxtrain.errors import DataError

# The exceptions of Pillow's decoders for damaged files, besides OSError.
_DAMAGE = (
    *(Image.DecompressionBombError, AttributeError, LookupError, OverflowError, struct.error, SyntaxError, TypeError),
    *(ValueError, zlib.error),
)
# Pillow supports forty other formats, some of which run other programs; data sets do not use them.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "PPM")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_GROUP = 16
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange height and width


def decode(
    source: Path | IO[bytes], name: object, channels: int, size: tuple[int, int] | None, upright: bool = True
) -> np.ndarray:
    """Decode an image as uint8[H, W, channels].

    Only the first frame of an animation is decoded. Transparency is dropped unless there are 4 channels. 16-bit gray is
    scaled to 8 bits.

    Args:
      source: the file.
      name: the file's name for messages.
      channels: the number of channels: 1 (gray), 3 (RGB) or 4 (RGBA).
      size: the height and width of the result, see `resize_and_crop`; None keeps the image's own size.
      upright: whether to rotate and mirror the image according to its EXIF data.

    Raises:
      DataError: the image does not decode or is truncated.
    """
    with reading(name, *_DAMAGE), Image.open(source, formats=_FORMATS) as image:
        if upright:
            ImageOps.exif_transpose(image, in_place=True)
        return resize_and_crop(_convert_mode(image, _MODES[channels]), size)


def decode_window(
    source: Path | IO[bytes], name: object, channels: int, window: Callable[[Size], CropWindow], upright: bool = True
) -> np.ndarray:
    """Decode the part of an image that a window shows, as uint8[H, W, channels].

    Other pixels are decoded only if the format requires it.

    Args:
      source: the file.
      name: the file's name for messages.
      channels: the number of channels, as in `decode`.
      window: a function from the width and height of the upright image, from the file's header, to the window.
      upright: whether to rotate and mirror the image, as in `decode`.

    Raises:
      DataError: the image does not decode or is truncated.
    """
    with reading(name, *_DAMAGE), Image.open(source, formats=_FORMATS) as image:
        sideways = upright and image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS
        size = image.size[::-1] if sideways else image.size
        wanted = window(size)
        factor = jpeg_reduction(wanted)
        if factor > 1:
            image.draft(None, (max(image.width // factor, 1), max(image.height // factor, 1)))
        if upright:
            ImageOps.exif_transpose(image, in_place=True)
        return _to_array(apply_window(_convert_mode(image, _MODES[channels]), wanted, size))


def crop_array(pixels: np.ndarray, window: Callable[[Size], CropWindow]) -> np.ndarray:
    """Return the part that a window shows of `pixels` uint8[H, W, C] with 1, 3 or 4 channels."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    return _to_array(apply_window(image, window(image.size)))


def resize_and_crop(image: Image.Image, size: tuple[int, int] | None) -> np.ndarray:
    """Return `image` as uint8[H, W, C], resized and center-cropped to the height and width `size` unless that is None.

    The image is scaled at a constant aspect ratio until it just covers `size`, by bilinear interpolation with
    antialiasing. The rest is cropped equally on both sides.
    """
    if size is not None:
        # ImageOps.fit resamples the centered part with the target's aspect ratio. This combines the resize and the
        # center crop without rounding the intermediate size.
        image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BILINEAR)
    return _to_array(image)


def _to_array(image: Image.Image) -> np.ndarray:
    return np.asarray(image).reshape(image.height, image.width, -1)


def allocate(count: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Return an uninitialized array uint8[count, *shape]; raise `DataError` if memory does not suffice."""
    try:
        return np.empty((count, *shape), np.uint8)
    except MemoryError as error:
        raise DataError(
            f"{count:,} images of {' x '.join(map(str, shape))} take {count * math.prod(shape) / 2**30:,.1f} GiB, more "
            "than the available memory; choose a smaller size"
        ) from error


def fill(images: np.ndarray, read: Callable[[int], np.ndarray], threads: int) -> None:
    """Write `read(i)` to every `images[i]`, with this number of threads."""

    def fill_group(start: int) -> None:
        for index in range(start, min(start + _GROUP, len(images))):
            images[index] = read(index)

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(fill_group, range(0, len(images), _GROUP)):
            pass


def _convert_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow clips 16-bit gray at 255 in a conversion, so nearly every pixel would be white.
        wide = np.asarray(image).astype(np.int64)
        image = Image.fromarray(((wide + 128) // 257).clip(0, 255).astype(np.uint8))
    elif "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)
