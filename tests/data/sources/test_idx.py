import gzip
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtrain.data.sources import idx as module
from jaxtrain.data.sources.idx import fashion_mnist, idx, mnist, read_idx
from jaxtrain.errors import DataError
from tests.conftest import examples

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def pack_idx(code: int, shape: tuple[int, ...], payload: bytes) -> bytes:
    """Encode an IDX file as the format defines it."""
    return struct.pack(">HBB", 0, code, len(shape)) + struct.pack(f">{len(shape)}I", *shape) + payload


def images(count: int, height: int = 2, width: int = 3) -> bytes:
    size = count * height * width
    return pack_idx(8, (count, height, width), bytes(i % 256 for i in range(size)))


def labels(values: list[int]) -> bytes:
    return pack_idx(8, (len(values),), bytes(values))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write five training and two test images of 2 x 3; some files are compressed."""
    for name, content in zip(NAMES, (images(5), labels([0, 1, 2, 1, 0]), images(2), labels([2, 1])), strict=True):
        compress = "images" in name
        path = tmp_path / (name + ".gz" if compress else name)
        path.write_bytes(gzip.compress(content) if compress else content)
    return tmp_path


@pytest.mark.parametrize(
    ("code", "letter", "dtype", "values"),
    [
        (0x08, "B", np.uint8, [0, 1, 254, 255]),
        (0x09, "b", np.int8, [-128, -1, 0, 127]),
        (0x0B, "h", np.int16, [-32768, 1, 256, 32767]),
        (0x0C, "i", np.int32, [-(2**31), 1, 65536, 2**31 - 1]),
        (0x0D, "f", np.float32, [-1.5, 0.0, 0.1, 1e30]),
        (0x0E, "d", np.float64, [-1.5, 0.0, 0.1, 1e300]),
    ],
)
def test_read_idx_reads_every_type_of_the_format(
    tmp_path: Path, code: int, letter: str, dtype: type, values: list[Any]
):
    path = tmp_path / "array"
    path.write_bytes(pack_idx(code, (2, 2), struct.pack(f">4{letter}", *values)))
    array = read_idx(path)
    assert array.dtype == np.dtype(dtype)
    assert array.dtype.isnative
    np.testing.assert_array_equal(array, np.array(values, dtype).reshape(2, 2))


def test_read_idx_orders_axes_from_slowest_to_fastest(tmp_path: Path):
    path = tmp_path / "array"
    path.write_bytes(pack_idx(8, (2, 3, 1, 2), bytes(range(12))))
    np.testing.assert_array_equal(read_idx(path), np.arange(12).reshape(2, 3, 1, 2))


def test_read_idx_detects_compression_from_the_contents(tmp_path: Path):
    path = tmp_path / "array"  # compressed without the suffix, as some browsers leave it
    path.write_bytes(gzip.compress(labels([3, 4])))
    assert read_idx(path).tolist() == [3, 4]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an IDX file"),
        (b"\0\0\x08", "is not an IDX file"),
        (b"\0\1\x08\1" + bytes(8), "starts with 0x00010801"),
        (b"\0\0\x0a\1" + bytes(8), "is not an IDX file"),
        (b"\0\0\x08\0", "is not an IDX file"),
        (b"\0\0\x08\xff" + bytes(4 * 255), "is not an IDX file"),
        (b"\0\0\x08\3\0\0\0\2", "ends inside its header"),
        (pack_idx(8, (2, 2), b"abc"), r"3 bytes after its header, .* 4 bytes: it is incomplete"),
        (pack_idx(8, (2, 2), b"abcde"), "there are bytes after the array"),
        (pack_idx(8, (2**32 - 1,) * 3, b"abc"), "it is incomplete"),
        (pack_idx(8, (2**32 - 1, 0, 2**32 - 1), b"abc"), "there are bytes after the array"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_read_idx_refuses_damaged_files(tmp_path: Path, content: bytes, message: str, pack: Callable[[bytes], bytes]):
    path = tmp_path / "array"
    path.write_bytes(pack(content))
    with pytest.raises(DataError, match=message) as error:
        read_idx(path)
    assert str(path) in str(error.value)


@given(cut=st.integers(0, 10_000))
@examples(40)
def test_read_idx_refuses_a_compressed_file_truncated_anywhere(tmp_path_factory: pytest.TempPathFactory, cut: int):
    noise = np.random.RandomState(0).bytes(200)
    whole = gzip.compress(pack_idx(8, (200,), noise))
    path = tmp_path_factory.mktemp("cut") / "array"
    path.write_bytes(whole[: cut % len(whole)])
    with pytest.raises(DataError, match=re.escape(str(path))):
        read_idx(path)


@given(place=st.integers(0, 10_000), value=st.integers(1, 255))
@examples(60)
def test_read_idx_refuses_or_survives_a_flipped_byte_in_a_compressed_file(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
):
    content = bytearray(gzip.compress(pack_idx(8, (200,), np.random.RandomState(0).bytes(200))))
    content[place % len(content)] ^= value
    path = tmp_path_factory.mktemp("flip") / "array"
    path.write_bytes(content)
    try:
        array = read_idx(path)  # a flipped byte in gzip's own header can be harmless
    except DataError as error:
        assert str(path) in str(error)  # noqa: PT017
    else:
        assert array.tobytes() == np.random.RandomState(0).bytes(200)


def test_read_idx_names_a_missing_or_unreadable_file(tmp_path: Path):
    with pytest.raises(DataError, match="nowhere cannot be read: No such file"):
        read_idx(tmp_path / "nowhere")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_idx(tmp_path)


def test_idx_reads_the_splits_of_a_folder(folder: Path):
    data = idx(directory=folder, num_classes=3)
    assert (data.image_shape, data.num_classes, data.sizes) == ((2, 3, 1), 3, {"train": 5, "test": 2})
    assert data.class_names == ("0", "1", "2")
    train, test = data.load("train"), data.load("test")
    np.testing.assert_array_equal(train.images, np.arange(30).reshape(5, 2, 3, 1))
    assert (train.labels.tolist(), train.labels.dtype) == ([0, 1, 2, 1, 0], np.int32)
    assert test.labels.tolist() == [2, 1]


def test_idx_describes_a_dataset_from_file_headers_only(folder: Path):
    for name in NAMES:
        path = folder / (name + ".gz" if "images" in name else name)
        content = path.read_bytes()
        # Only the beginning remains: no pixel can be read.
        path.write_bytes(content[:40] if "images" in name else content[:8])
    data = idx(directory=folder, num_classes=3)
    assert data.sizes == {"train": 5, "test": 2}
    with pytest.raises(DataError, match="train-images"):
        data.load("train")


def test_idx_accepts_a_subdirectory_dotted_names_and_no_test_split(tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train-images.idx3-ubyte").write_bytes(pack_idx(8, (2, 4, 4, 3), bytes(96)))
    (tmp_path / "mine" / "train-labels.idx1-ubyte").write_bytes(pack_idx(0x0C, (2,), struct.pack(">2i", 300, 7)))
    data = idx(directory=tmp_path, subdirectory="mine", num_classes=301)
    assert (data.image_shape, data.sizes) == ((4, 4, 3), {"train": 2})
    assert data.load("train").labels.tolist() == [300, 7]
    with pytest.raises(DataError, match="no split 'test'"):
        data.load("test")


@pytest.mark.parametrize("missing", NAMES)
def test_idx_and_mnist_name_a_missing_file(folder: Path, missing: str):
    for path in folder.glob(f"{missing}*"):
        path.unlink()
    with pytest.raises(DataError, match=f"but not {missing};"):
        idx(directory=folder)
    with pytest.raises(DataError, match=rf"but not {missing};.*yann\.lecun\.com"):
        mnist(directory=folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (NAMES[1], labels([0, 1]), "5 images, but .*train-labels-idx1-ubyte has 2 labels"),
        (NAMES[1], images(5), r"labels must be integers of \[N\]"),
        (NAMES[1], pack_idx(0x0D, (5,), bytes(20)), "float32"),
        (NAMES[0], labels([0] * 5), "images must be uint8"),
        (NAMES[0], pack_idx(0x0B, (5, 1, 1), bytes(10)), "images must be uint8"),
        (NAMES[0], images(0), "N > 0"),
        (NAMES[2], images(2, 3, 3), "the two splits must have images of the same shape"),
    ],
)
def test_idx_refuses_inconsistent_files(folder: Path, name: str, content: bytes, message: str):
    (folder / f"{name}.gz").unlink(missing_ok=True)
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        idx(directory=folder)


def test_idx_refuses_a_label_out_of_range(folder: Path):
    with pytest.raises(DataError, match="label 2 of example 2 is out of range; with 2 classes"):
        idx(directory=folder, num_classes=2).load("train")


@pytest.mark.parametrize(
    ("factory", "place"),
    [
        (mnist, "mnist"),
        (mnist, "MNIST/raw"),
        (mnist, ""),
        (fashion_mnist, "fashion_mnist"),
        (fashion_mnist, "fashion-mnist"),
        (fashion_mnist, "FashionMNIST/raw"),
        (fashion_mnist, ""),
    ],
)
def test_mnist_and_fashion_mnist_search_the_usual_folders(
    folder: Path, tmp_path: Path, factory: Callable[..., Any], place: str
):
    target = tmp_path / "data" / place
    target.mkdir(parents=True)
    for path in folder.glob("*ubyte*"):
        shutil.copy(path, target)
    data = factory(directory=tmp_path / "data")
    assert data.sizes == {"train": 5, "test": 2}
    assert len(data.class_names) == data.num_classes == 10


def test_idx_without_a_data_directory_says_how_to_set_one():
    with pytest.raises(DataError, match=r"JAXTRAIN_DATA.*train-images-idx3-ubyte.*github\.com/zalandoresearch"):
        fashion_mnist(directory=None)
    with pytest.raises(DataError, match="idx: no data directory"):
        idx(directory=None)


TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.parametrize(
    ("name", "train_counts", "test_counts", "mean", "std"),
    [("mnist", TRAIN_COUNTS, TEST_COUNTS, 0.1307, 0.3081), ("fashion_mnist", [6000] * 10, [1000] * 10, 0.2860, 0.3530)],
)
def test_mnist_and_fashion_mnist_read_the_real_files(
    real_data: Callable[[str], Path],
    name: str,
    train_counts: list[int],
    test_counts: list[int],
    mean: float,
    std: float,
):
    data = getattr(module, name)(directory=real_data(name))
    assert (data.image_shape, data.sizes) == ((28, 28, 1), {"train": 60_000, "test": 10_000})
    train = data.load("train")
    assert np.bincount(train.labels).tolist() == train_counts
    assert np.bincount(data.load("test").labels).tolist() == test_counts
    counts = np.bincount(train.images.reshape(-1), minlength=256) / train.images.size
    levels = np.arange(256) / 255
    assert round(float(counts @ levels), 4) == mean
    assert round(float(np.sqrt(counts @ levels**2 - (counts @ levels) ** 2)), 4) == std
