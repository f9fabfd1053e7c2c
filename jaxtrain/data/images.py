"""Image files made into arrays of one shape: decoding, orientation, color mode, resizing and cropping."""

import os
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps

from jaxtrain.data.files import reading
from jaxtrain.errors import DataError

# What Pillow's decoders raise on damaged files, besides OSError.
_DAMAGE = (
    *(Image.DecompressionBombError, AttributeError, LookupError, OverflowError, struct.error, SyntaxError, TypeError),
    *(ValueError, zlib.error),
)
# Pillow knows forty formats more, some of which run other programs: data sets do not come in them.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "PPM")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_GROUP = 64


def decode(source: Path | IO[bytes], name: object, channels: int, size: tuple[int, int] | None) -> np.ndarray:
    """An encoded image as uint8[H, W, channels], turned upright as its EXIF data says.

    Args:
      source: the file.
      name: what to call it in messages.
      channels: 1 (grey), 3 (RGB) or 4 (RGBA); the first frame of an animation is taken, transparency is dropped unless
        there are 4 channels, and 16-bit grey is scaled to 8.
      size: height and width of the result. The image is scaled, aspect kept, until it just covers them, by bilinear
        interpolation with antialiasing, and what stands over is cut off evenly on both sides. None keeps it as it is.

    Raises:
      DataError: it does not decode, or is cut short.
    """
    with reading(name, *_DAMAGE), Image.open(source, formats=_FORMATS) as image:
        ImageOps.exif_transpose(image, in_place=True)
        plain = _in_mode(image, _MODES[channels])
        if size is not None:
            # ImageOps.fit resamples the centered part that has the target's aspect: a resize and a center crop in
            # one, without rounding the size in between.
            plain = ImageOps.fit(plain, (size[1], size[0]), Image.Resampling.BILINEAR)
        return np.asarray(plain).reshape(plain.height, plain.width, channels)


def stack(count: int, shape: tuple[int, int, int], read: Callable[[int], np.ndarray], threads: int = 0) -> np.ndarray:
    """uint8[count, *shape] with `read(i)` at each place `i`.

    Args:
      count: number of images.
      shape: height, width, channels of each.
      read: gives one image; called from several threads.
      threads: 0 for one a CPU. With images of a few hundred pixels one is the fastest, since the threads
        spend their time waiting for the interpreter.

    Raises:
      DataError: the images do not fit into memory, or what `read` raises.
    """
    try:
        images = np.empty((count, *shape), np.uint8)
    except MemoryError as error:
        raise DataError(
            f"{count:,} images of {' x '.join(map(str, shape))} take {count * np.prod(shape) / 2**30:,.1f} GiB, more "
            "than there is memory; choose a smaller size"
        ) from error

    def fill(start: int) -> None:
        for index in range(start, min(start + _GROUP, count)):
            images[index] = read(index)

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        for _ in pool.map(fill, range(0, count, _GROUP)):
            pass
    return images


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow clips 16-bit grey at 255 when it converts: nearly every pixel would be white.
        wide = np.asarray(image).astype(np.int64)
        image = Image.fromarray(((wide + 128) // 257).clip(0, 255).astype(np.uint8))
    elif "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)
