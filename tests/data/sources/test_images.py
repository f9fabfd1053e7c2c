import io
import random
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxtrain.data.sources.images import allocate, decode, fill, resize_and_crop
from jaxtrain.errors import DataError


def encode(image: Image.Image | np.ndarray, kind: str = "PNG", **options: object) -> io.BytesIO:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return io.BytesIO(stream.getvalue())


def noise(*shape: int) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)


def png(width: int, height: int, depth: int, color: int, rows: bytes) -> io.BytesIO:
    """Encode a PNG file as the format defines it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def test_decode_converts_between_color_and_grey():
    rows = b"\0" + bytes([255, 0, 0, 0, 255, 0])  # red, green
    color = decode(png(2, 1, 8, 2, rows), "f", 3, None)
    assert (color.tolist(), color.dtype) == ([[[255, 0, 0], [0, 255, 0]]], np.uint8)
    grey = decode(png(2, 1, 8, 2, rows), "f", 1, None)
    assert grey.tolist() == [[[76], [150]]]  # ITU-R 601: 0.299 and 0.587 of 255
    assert decode(png(2, 1, 8, 0, b"\0\7\xc8"), "f", 3, None).tolist() == [[[7] * 3, [200] * 3]]
    assert decode(png(2, 1, 8, 0, b"\0\7\xc8"), "f", 4, None).tolist() == [[[7, 7, 7, 255], [200, 200, 200, 255]]]


def test_decode_scales_sixteen_bit_grey_without_clipping():
    rows = b"\0" + struct.pack(">4H", 0, 257, 32896, 65535)
    assert decode(png(4, 1, 16, 0, rows), "f", 1, None).tolist() == [[[0], [1], [128], [255]]]
    pgm = io.BytesIO(b"P5 3 1 65535\n" + struct.pack(">3H", 0, 32896, 65535))
    assert decode(pgm, "f", 3, None)[0, :, 2].tolist() == [0, 128, 255]


def test_decode_drops_transparency_and_resolves_palettes():
    palette = Image.new("P", (1, 1))
    palette.putpalette([9, 8, 7])
    assert decode(encode(palette, transparency=b"\x80"), "f", 3, None).tolist() == [[[9, 8, 7]]]
    assert decode(encode(palette, "GIF", transparency=0), "f", 3, None).tolist() == [[[9, 8, 7]]]
    assert decode(encode(np.array([[[1, 2, 3, 4]]], np.uint8)), "f", 3, None).tolist() == [[[1, 2, 3]]]
    assert decode(encode(np.array([[[1, 2, 3, 4]]], np.uint8)), "f", 4, None).tolist() == [[[1, 2, 3, 4]]]
    assert decode(encode(Image.new("1", (1, 1), 1)), "f", 3, None).tolist() == [[[255, 255, 255]]]
    assert decode(encode(Image.new("CMYK", (8, 8)), "JPEG"), "f", 3, None).min() == 255


@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode_applies_the_exif_orientation(orientation: int):
    # The transform that a viewer must apply to the stored image, from the EXIF standard.
    turn: Callable[[np.ndarray], np.ndarray] = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: np.rot90,
    }[orientation]
    stored = noise(2, 3, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(decode(encode(stored, exif=exif), "f", 3, None), turn(stored))
    np.testing.assert_array_equal(decode(encode(stored, exif=exif), "f", 3, None, upright=False), stored)


def resize_axis(row: np.ndarray, size: int) -> np.ndarray:
    """Interpolate along the first axis with antialiasing: a triangle filter as wide as two output pixels."""
    scale = len(row) / size
    width = max(scale, 1.0)
    centers = (np.arange(size)[:, None] + 0.5) * scale
    weights = np.maximum(0, 1 - abs(np.arange(len(row)) + 0.5 - centers) / width)
    return np.tensordot(weights / weights.sum(1, keepdims=True), row, 1)


@pytest.mark.parametrize(("height", "width"), [(40, 40), (40, 60), (100, 40), (10, 10), (20, 20), (10, 30)])
def test_decode_scales_to_cover_the_size_and_center_crops(height: int, width: int):
    image = noise(height, width, 3)
    result = decode(encode(image), "f", 3, (20, 20))
    assert result.shape == (20, 20, 3)
    # These sizes need no rounding, so scaling the whole image and cropping the center is the same.
    scale = 20 / min(height, width)
    tall, wide = round(height * scale), round(width * scale)
    whole = resize_axis(resize_axis(image.astype(float), tall).swapaxes(0, 1), wide).swapaxes(0, 1)
    top, left = (tall - 20) // 2, (wide - 20) // 2
    inner = slice(2, -2)  # at an edge the filter no longer sees the removed pixels
    difference = result[inner, inner] - whole[top : top + 20, left : left + 20][inner, inner]
    assert abs(difference).max() < 1.1  # Pillow rounds between the two axes


def test_decode_leaves_an_image_of_the_requested_size_unchanged():
    image = noise(7, 5, 3)
    np.testing.assert_array_equal(decode(encode(image), "f", 3, (7, 5)), image)
    np.testing.assert_array_equal(resize_and_crop(Image.fromarray(image[..., 0]), None), image[..., :1])


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3)])
def test_decode_handles_extreme_sizes(size: tuple[int, int]):
    assert decode(encode(noise(5, 9, 3)), "f", 3, size).shape == (*size, 3)
    assert decode(encode(noise(1, 1)), "f", 1, size).shape == (*size, 1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "GIF", "PPM"])
def test_decode_of_damaged_files_gives_a_data_error_or_an_image(kind: str, tmp_path: Path):
    whole = encode(noise(24, 31, 3), kind).getvalue()
    rng = random.Random(0)
    path = tmp_path / "image"
    outcomes = set()
    for trial in range(150):
        content = bytearray(whole)
        for _ in range(trial % 4):
            content[rng.randrange(min(len(content), 200))] = rng.randrange(256)
        cut = len(content) if trial % 4 else rng.randrange(len(content))
        path.write_bytes(content[:cut])
        try:
            outcomes.add(decode(path, path, 3, (8, 8)).shape)
        except DataError as error:
            outcomes.add("error")
            assert str(path) in str(error)  # noqa: PT017
        except Warning:
            pass  # for example of a declared size that would need too much memory
    assert outcomes <= {"error", (8, 8, 3)}
    assert "error" in outcomes


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "PPM"])
def test_decode_refuses_a_slightly_truncated_image(kind: str):
    whole = encode(noise(64, 64, 3), kind).getvalue()
    with pytest.raises(DataError, match="my file cannot be decoded"):
        decode(io.BytesIO(whole[: int(0.9 * len(whole))]), "my file", 3, (8, 8))


def test_decode_refuses_files_that_are_not_images(tmp_path: Path):
    with pytest.raises(DataError, match="cannot be decoded"):
        decode(io.BytesIO(b"just text"), "f", 3, None)
    with pytest.raises(DataError, match="cannot be decoded"):
        decode(io.BytesIO(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "f", 3, None)
    with pytest.raises(DataError, match="nowhere cannot be read: No such file"):
        decode(tmp_path / "nowhere", tmp_path / "nowhere", 3, None)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 100])
def test_fill_reads_every_image_once(count: int, threads: int):
    images = np.zeros((count, 1, 1, 1), np.uint8)
    seen, lock = [], threading.Lock()

    def read(index: int) -> np.ndarray:
        with lock:
            seen.append(index)
        return np.full((1, 1, 1), index, np.uint8)

    fill(images, read, threads)
    assert images.reshape(-1).tolist() == sorted(seen) == list(range(count))


def test_fill_raises_the_error_of_a_thread():
    def read(index: int) -> np.ndarray:
        raise DataError(f"image {index}")

    with pytest.raises(DataError, match="image 0"):
        fill(np.zeros((100, 1, 1, 1), np.uint8), read, 2)


def test_allocate_refuses_images_that_exceed_the_memory():
    with pytest.raises(DataError, match="choose a smaller size"):
        allocate(10**12, (224, 224, 3))
