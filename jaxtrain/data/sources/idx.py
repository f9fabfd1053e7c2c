"""MNIST's IDX format: MNIST itself, Fashion-MNIST, and any images and labels stored the same way."""

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
from jaxtrain.data.sources.files import Form, Search, reading
from jaxtrain.errors import DataError

_FASHION = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
# The third byte of the magic number; numbers of several bytes are big-endian.
_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"
_MOST_AXES = 64  # numpy's limit; the format's own is 255


def mnist(*, directory: Path | None) -> Dataset:
    """60,000 + 10,000 handwritten digits, 28x28 grey (LeCun et al. 1998), from the four IDX files, plain or .gz.

    They are looked for in `directory`/mnist, /MNIST/raw (where torchvision puts them) and `directory` itself.

    Raises:
      DataError: the files are missing or damaged, or images and labels do not go together.
    """
    search = Search("mnist", directory, ("mnist", "MNIST/raw", ""), "yann.lecun.com/exdb/mnist")
    return _dataset("mnist", search.find(_FORMS[0]).files, tuple(str(digit) for digit in range(10)))


def fashion_mnist(*, directory: Path | None) -> Dataset:
    """60,000 + 10,000 pictures of clothing, 28x28 grey (Xiao et al. 2017), from the four IDX files, plain or .gz.

    They are looked for in `directory`/fashion_mnist, /fashion-mnist, /FashionMNIST/raw (where torchvision puts them)
    and `directory` itself.

    Raises:
      DataError: the files are missing or damaged, or images and labels do not go together.
    """
    folders = ("fashion_mnist", "fashion-mnist", "FashionMNIST/raw", "")
    search = Search("fashion_mnist", directory, folders, "github.com/zalandoresearch/fashion-mnist")
    return _dataset("fashion_mnist", search.find(_FORMS[0]).files, _FASHION)


def idx(*, directory: Path | None, num_classes: PositiveInt = 10, subdirectory: str = "") -> Dataset:
    """Images uint8[N, H, W] or [N, H, W, C] and labels [N] in IDX files that are named as MNIST's are.

    Args:
      directory: the data directory.
      num_classes: labels lie in [0, num_classes).
      subdirectory: the folder under `directory` that holds the files; without the t10k ones there is no test split.

    Raises:
      DataError: the files are missing or damaged, or images and labels do not go together.
    """
    found = Search("idx", directory, (subdirectory,)).find(*_FORMS)
    if found.form == "train" and any(found.files[0].parent.glob("t10k-*")):
        Search("idx", directory, (subdirectory,)).find(_FORMS[0])  # says which of the test split's files is missing
    return _dataset("idx", found.files, tuple(str(label) for label in range(num_classes)))


def read_idx(path: Path) -> np.ndarray:
    """The array in an IDX file, plain or gzip-compressed (told by its first bytes), in the machine's byte order.

    Raises:
      DataError: the file cannot be read, is not IDX, or holds more or less than its header says.
    """
    with _opened(path) as stream:
        dtype, shape = _header(stream, path)
        payload = stream.read()
    expected = math.prod(shape) * dtype.itemsize
    if len(payload) != expected:
        problem = "it is incomplete" if len(payload) < expected else "there are bytes after the array"
        raise DataError(
            f"{path} holds {len(payload):,} bytes after its header, which speaks of {dtype.name} of shape {shape}, "
            f"{expected:,} bytes: {problem}; get the file again"
        )
    return np.frombuffer(payload, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _form(name: str, stems: tuple[str, ...]) -> Form:
    plain = [f"{stem}-{'idx3' if stem.endswith('images') else 'idx1'}-ubyte" for stem in stems]
    # Some unpackers turn the dash before "idx" into a dot.
    files = ((name, f"{name}.gz", dotted := name.replace("-idx", ".idx"), f"{dotted}.gz") for name in plain)
    return Form(name, tuple(files), f"{', '.join(plain[:-1])} and {plain[-1]} (plain or .gz)")


_FORMS = (
    _form("train and test", ("train-images", "train-labels", "t10k-images", "t10k-labels")),
    _form("train", ("train-images", "train-labels")),
)


class _Header(NamedTuple):
    dtype: np.dtype
    shape: tuple[int, ...]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[gzip.GzipFile | IO[bytes]]:
    """The file's bytes, unpacked if they are compressed; whatever goes wrong inside is a `DataError`."""
    with reading(path, zlib.error), path.open("rb") as file:
        packed = file.read(2) == _GZIP_MAGIC  # no IDX file starts so: its first two bytes are zero
        file.seek(0)
        if packed:
            with gzip.open(file) as stream:
                yield stream
        else:
            yield file


def _header(stream: gzip.GzipFile | IO[bytes], path: Path) -> _Header:
    """Two zero bytes, the code of the type, the number of axes, then each axis' length as a big-endian uint32."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES or not 1 <= magic[3] <= _MOST_AXES:
        raise DataError(
            f"{path} is not an IDX file: it starts with 0x{magic.hex()}, not with two zero bytes, a type and the "
            "number of axes (0x00000803 for images); get the file again"
        )
    axes = stream.read(4 * magic[3])
    if len(axes) < 4 * magic[3]:
        raise DataError(f"{path} ends inside its header; it is incomplete: get the file again")
    return _Header(np.dtype(_DTYPES[magic[2]]), tuple(int(length) for length in np.frombuffer(axes, ">u4")))


def _dataset(name: str, files: tuple[Path, ...], class_names: tuple[str, ...]) -> Dataset:
    """`files` are train images and labels, then test images and labels if there is such a split."""
    pairs = {"train": files[:2], "test": files[2:]} if len(files) == 4 else {"train": files}
    shapes = {split: _images_shape(*pair) for split, pair in pairs.items()}
    image_shape = shapes["train"][1:]
    if "test" in shapes and shapes["test"][1:] != image_shape:
        raise DataError(
            f"{files[2]} holds images of shape {shapes['test'][1:]}, but {files[0]} of shape {image_shape}; "
            "the two splits must have images of one shape"
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
    """N, H, W, C of a split by the two headers alone, which have to fit together."""
    with _opened(images) as stream:
        dtype, shape = _header(stream, images)
    with _opened(labels) as stream:
        label_dtype, label_shape = _header(stream, labels)
    if dtype != np.uint8 or len(shape) not in (3, 4) or 0 in shape:
        raise DataError(
            f"{images} holds {dtype.name} of shape {shape}; images are uint8 of [N, H, W] or [N, H, W, C], N > 0"
        )
    if label_dtype.kind not in "iu" or len(label_shape) != 1:
        raise DataError(f"{labels} holds {label_dtype.name} of shape {label_shape}; labels are whole numbers of [N]")
    if label_shape[0] != shape[0]:
        raise DataError(
            f"{images} holds {shape[0]:,} images, but {labels} {label_shape[0]:,} labels; "
            "they are not of one split: get both files again"
        )
    return shape if len(shape) == 4 else (*shape, 1)
