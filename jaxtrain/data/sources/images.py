"""Image files made into arrays of one shape: decoding, orientation, color mode, resizing and cropping."""

import math
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image, ImageOps

from jaxtrain.augment.decode.window import Size, Window, reduction, show
from jaxtrain.data.sources.files import reading
from jaxtrain.errors import DataError

# What Pillow's decoders raise on damaged files, besides OSError.
_DAMAGE = (
    *(Image.DecompressionBombError, AttributeError, LookupError, OverflowError, struct.error, SyntaxError, TypeError),
    *(ValueError, zlib.error),
)
# Pillow knows forty formats more, some of which run other programs: data sets do not come in them.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "PPM")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_GROUP = 16
_SIDEWAYS = (5, 6, 7, 8)  # orientations in which height and width change places


def decode(
    source: Path | IO[bytes], name: object, channels: int, size: tuple[int, int] | None, upright: bool = True
) -> np.ndarray:
    """An encoded image as uint8[H, W, channels].

    Args:
      source: the file.
      name: what to call it in messages.
      channels: 1 (grey), 3 (RGB) or 4 (RGBA); the first frame of an animation is taken, transparency is dropped unless
        there are 4 channels, and 16-bit grey is scaled to 8.
      size: height and width of the result, see `shaped`; None keeps the image's own.
      upright: turn and mirror it as its EXIF data says.

    Raises:
      DataError: it does not decode, or is cut short.
    """
    with reading(name, *_DAMAGE), Image.open(source, formats=_FORMATS) as image:
        if upright:
            ImageOps.exif_transpose(image, in_place=True)
        return shaped(_in_mode(image, _MODES[channels]), size)


def decode_part(
    source: Path | IO[bytes], name: object, channels: int, window: Callable[[Size], Window], upright: bool = True
) -> np.ndarray:
    """What a window shows of an encoded image, as uint8[H, W, channels]; other pixels are decoded where they must be.

    Args:
      source: the file.
      name: what to call it in messages.
      channels: as in `decode`.
      window: from the width and height of the upright image, which stand in the file's head, to the window.
      upright: as in `decode`.

    Raises:
      DataError: it does not decode, or is cut short.
    """
    with reading(name, *_DAMAGE), Image.open(source, formats=_FORMATS) as image:
        sideways = upright and image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS
        size = image.size[::-1] if sideways else image.size
        wanted = window(size)
        factor = reduction(wanted)
        if factor > 1:
            image.draft(None, (max(image.width // factor, 1), max(image.height // factor, 1)))
        if upright:
            ImageOps.exif_transpose(image, in_place=True)
        return _array(show(_in_mode(image, _MODES[channels]), wanted, size))


def part_of(pixels: np.ndarray, window: Callable[[Size], Window]) -> np.ndarray:
    """The same for an image that is there: `pixels` uint8[H, W, C] with 1, 3 or 4 channels."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    return _array(show(image, window(image.size)))


def shaped(image: Image.Image, size: tuple[int, int] | None) -> np.ndarray:
    """`image` as uint8[H, W, C], brought to the height and width `size` unless that is None.

    It is scaled, aspect kept, until it just covers `size`, by bilinear interpolation with antialiasing, and what stands
    over is cut off evenly on both sides.
    """
    if size is not None:
        # ImageOps.fit resamples the centered part that has the target's aspect: a resize and a center crop in one,
        # without rounding the size in between.
        image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BILINEAR)
    return _array(image)


def _array(image: Image.Image) -> np.ndarray:
    return np.asarray(image).reshape(image.height, image.width, -1)


def allocate(count: int, shape: tuple[int, int, int]) -> np.ndarray:
    """uint8[count, *shape], not yet filled; `DataError` where that is more than there is memory."""
    try:
        return np.empty((count, *shape), np.uint8)
    except MemoryError as error:
        raise DataError(
            f"{count:,} images of {' x '.join(map(str, shape))} take {count * math.prod(shape) / 2**30:,.1f} GiB, more "
            "than there is memory; choose a smaller size"
        ) from error


def fill(images: np.ndarray, read: Callable[[int], np.ndarray], threads: int) -> None:
    """Puts `read(i)` into every `images[i]`, from so many threads."""

    def fill_group(start: int) -> None:
        for index in range(start, min(start + _GROUP, len(images))):
            images[index] = read(index)

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(fill_group, range(0, len(images), _GROUP)):
            pass


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow clips 16-bit grey at 255 when it converts: nearly every pixel would be white.
        wide = np.asarray(image).astype(np.int64)
        image = Image.fromarray(((wide + 128) // 257).clip(0, 255).astype(np.uint8))
    elif "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)
