"""Data sets in MNIST's IDX format: MNIST, Fashion-MNIST, and a user's own images and labels."""

import contextlib
import gzip
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from jaxtrain.annotations import PositiveInt
from jaxtrain.data.dataset import Dataset
from jaxtrain.data.source import ArraySource
from jaxtrain.data.sources.files import FileSet, Search, reading
from jaxtrain.errors import DataError

_FASHION = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
# The key is the third byte of the magic number; values of several bytes are big-endian.
_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"
_MOST_AXES = 64  # numpy's limit; the format's own is 255


def mnist(*, directory: Path | None) -> Dataset:
    """Return MNIST: 60,000 + 10,000 handwritten digits, 28x28 gray (LeCun et al. 1998), from IDX files, plain or .gz.

    Args:
      directory: the data directory; the four files are in its folder `mnist` or `MNIST/raw` (torchvision's), or in
        `directory` itself.

    Raises:
      DataError: the files are missing or damaged, or images and labels do not match.

    Example:
      >>> import jaxtrain
      >>> dataset = jaxtrain.data.synthetic(like="mnist")  # the same shapes and sizes, without files
      >>> dataset.image_shape, dict(dataset.sizes)
      ((28, 28, 1), {'train': 60000, 'test': 10000})
    """
    search = Search("mnist", directory, ("mnist", "MNIST/raw", ""), "yann.lecun.com/exdb/mnist")
    return _build_dataset("mnist", search.find(_FORMS[0]).files, tuple(str(digit) for digit in range(10)))


def fashion_mnist(*, directory: Path | None) -> Dataset:
    """Return Fashion-MNIST: 60,000 + 10,000 images of clothing, 28x28 gray (Xiao et al. 2017), from IDX files.

    Args:
      directory: the data directory; the four files, plain or .gz, are in its folder `fashion_mnist`, `fashion-mnist` or
        `FashionMNIST/raw` (torchvision's), or in `directory` itself.

    Raises:
      DataError: the files are missing or damaged, or images and labels do not match.

    Example:
      >>> import jaxtrain
      >>> jaxtrain.data.synthetic(like="fashion_mnist").image_shape  # the same shapes and sizes, without files
      (28, 28, 1)
    """
    folders = ("fashion_mnist", "fashion-mnist", "FashionMNIST/raw", "")
    search = Search("fashion_mnist", directory, folders, "github.com/zalandoresearch/fashion-mnist")
    return _build_dataset("fashion_mnist", search.find(_FORMS[0]).files, _FASHION)


def idx(*, directory: Path | None, num_classes: PositiveInt = 10, subdirectory: str = "") -> Dataset:
    """Return images uint8[N, H, W] or [N, H, W, C] and labels [N] from IDX files with the names of MNIST's files.

    Args:
      directory: the data directory.
      num_classes: the number of classes; labels lie in [0, num_classes).
      subdirectory: the folder of the files under `directory`; without t10k files there is no test split.

    Raises:
      DataError: the files are missing or damaged, or images and labels do not match.

    Example:
      >>> from jaxtrain.config import DatasetSpec
      >>> print(DatasetSpec("idx", num_classes=26, subdirectory="letters"))
      idx(num_classes=26, subdirectory='letters')
    """
    found = Search("idx", directory, (subdirectory,)).find(*_FORMS)
    if found.form == "train" and any(found.files[0].parent.glob("t10k-*")):
        Search("idx", directory, (subdirectory,)).find(_FORMS[0])  # raises with the test split's missing file
    return _build_dataset("idx", found.files, tuple(str(label) for label in range(num_classes)))


def read_idx(path: Path) -> np.ndarray:
    """Read the array of an IDX file, plain or gzip-compressed (detected by its first bytes), in native byte order.

    Raises:
      DataError: the file cannot be read, is not an IDX file, or its size does not match its header.
    """
    with _open(path) as stream:
        dtype, shape = _read_header(stream, path)
        payload = stream.read()
    expected = math.prod(shape) * dtype.itemsize
    if len(payload) != expected:
        problem = "it is incomplete" if len(payload) < expected else "there are bytes after the array"
        raise DataError(
            f"{path} has {len(payload):,} bytes after its header, which declares {dtype.name} of shape {shape}, "
            f"{expected:,} bytes: {problem}; download the file again"
        )
    return np.frombuffer(payload, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _form(name: str, stems: tuple[str, ...]) -> FileSet:
    plain = [f"{stem}-{'idx3' if stem.endswith('images') else 'idx1'}-ubyte" for stem in stems]
    # Some archive tools replace the dash before "idx" by a dot.
    files = ((name, f"{name}.gz", dotted := name.replace("-idx", ".idx"), f"{dotted}.gz") for name in plain)
    return FileSet(name, tuple(files), f"{', '.join(plain[:-1])} and {plain[-1]} (plain or .gz)")


_FORMS = (
    _form("train and test", ("train-images", "train-labels", "t10k-images", "t10k-labels")),
    _form("train", ("train-images", "train-labels")),
)


class _Header(NamedTuple):
    dtype: np.dtype
    shape: tuple[int, ...]


@contextlib.contextmanager
def _open(path: Path) -> Iterator[gzip.GzipFile | IO[bytes]]:
    """Open a file, decompressed if necessary; convert exceptions inside the `with` block to `DataError`."""
    with reading(path, zlib.error), path.open("rb") as file:
        compressed = file.read(2) == _GZIP_MAGIC  # an IDX file starts with two zero bytes
        file.seek(0)
        if compressed:
            with gzip.open(file) as stream:
                yield stream
        else:
            yield file


def _read_header(stream: gzip.GzipFile | IO[bytes], path: Path) -> _Header:
    """Read the header: two zero bytes, a type code, the number of axes, and each length as a big-endian uint32."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES or not 1 <= magic[3] <= _MOST_AXES:
        raise DataError(
            f"{path} is not an IDX file: it starts with 0x{magic.hex()}, not with two zero bytes, a type and the "
            "number of axes (0x00000803 for images); download the file again"
        )
    axes = stream.read(4 * magic[3])
    if len(axes) < 4 * magic[3]:
        raise DataError(f"{path} ends inside its header, so it is incomplete; download the file again")
    return _Header(np.dtype(_DTYPES[magic[2]]), tuple(int(length) for length in np.frombuffer(axes, ">u4")))


def _build_dataset(name: str, files: tuple[Path, ...], class_names: tuple[str, ...]) -> Dataset:
    """Build the data set from the files of train images and labels, and of test images and labels if they exist."""
    pairs = {"train": files[:2], "test": files[2:]} if len(files) == 4 else {"train": files}
    shapes = {split: _images_shape(*pair) for split, pair in pairs.items()}
    image_shape = shapes["train"][1:]
    if "test" in shapes and shapes["test"][1:] != image_shape:
        raise DataError(
            f"{files[2]} has images of shape {shapes['test'][1:]}, but {files[0]} of shape {image_shape}; "
            "the two splits must have images of the same shape"
        )

    def read(split: str) -> ArraySource:
        images, labels = (read_idx(path) for path in pairs[split])
        return ArraySource(images if images.ndim == 4 else images[..., None], labels.astype(np.int32))

    return Dataset(
        name=name,
        num_classes=len(class_names),
        image_shape=(image_shape[0], image_shape[1], image_shape[2]),
        sizes={split: shape[0] for split, shape in shapes.items()},
        class_names=class_names,
        read=read,
    )


def _images_shape(images: Path, labels: Path) -> tuple[int, ...]:
    """Return the shape (N, H, W, C) of a split from the headers of its two files, which must match."""
    with _open(images) as stream:
        dtype, shape = _read_header(stream, images)
    with _open(labels) as stream:
        label_dtype, label_shape = _read_header(stream, labels)
    if dtype != np.uint8 or len(shape) not in (3, 4) or 0 in shape:
        raise DataError(
            f"{images} has {dtype.name} of shape {shape}; images must be uint8 of [N, H, W] or [N, H, W, C], N > 0"
        )
    if label_dtype.kind not in "iu" or len(label_shape) != 1:
        raise DataError(f"{labels} has {label_dtype.name} of shape {label_shape}; labels must be integers of [N]")
    if label_shape[0] != shape[0]:
        raise DataError(
            f"{images} has {shape[0]:,} images, but {labels} has {label_shape[0]:,} labels; "
            "they belong to different splits: download both files again"
        )
    return shape if len(shape) == 4 else (*shape, 1)
