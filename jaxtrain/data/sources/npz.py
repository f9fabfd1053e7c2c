"""Arrays in one .npz file, as numpy.savez writes it."""

import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np

from jaxtrain.config.annotations import NonEmpty, PositiveInt
from jaxtrain.data.dataset import ArraySource, Dataset
from jaxtrain.data.sources.files import Form, Search, reading
from jaxtrain.errors import DataError

# What a damaged zip, an encrypted one, one of an unknown method, or a broken header makes the readers raise.
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, LookupError, MemoryError, OverflowError),
    *(SyntaxError, TypeError, ValueError, tokenize.TokenError),
)
# More than any data set has: labels beyond are something else, such as identifiers.
_MOST_CLASSES = 1_000_000


class _Header(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype


def npz(*, directory: Path | None, file: Annotated[str, NonEmpty()], num_classes: PositiveInt | None = None) -> Dataset:
    """Images and labels from the arrays `train_images`, `train_labels` and, if there is a test split, `test_...`.

    Args:
      directory: the data directory.
      file: the .npz file, relative to `directory`. Images are uint8 of [N, H, W] or [N, H, W, C], labels whole numbers
        of [N] or [N, 1]. Pickled (object) arrays are refused.
      num_classes: labels lie in [0, num_classes); None takes the greatest label of the train split plus one.

    Raises:
      DataError: the file is missing or damaged, or its arrays are not these.
    """
    found = Search("npz", directory, ("",)).find(Form("npz", ((file,),), file))
    path = found.files[0]
    headers = _headers(path)
    splits = ["train", "test"] if {"test_images", "test_labels"} & headers.keys() else ["train"]
    shapes = {split: _images_shape(path, headers, split) for split in splits}
    image_shape = shapes["train"][1:]
    if "test" in shapes and shapes["test"][1:] != image_shape:
        raise DataError(
            f"{path}: test images are of shape {shapes['test'][1:]}, train images of shape {image_shape}; "
            "the two splits must have images of one shape"
        )
    classes = num_classes or _count_classes(path)

    def read(split: str) -> ArraySource:
        images = _array(path, f"{split}_images").reshape(shapes[split])
        return ArraySource(images, _labels(path, split))

    return Dataset(
        name=f"npz {path.name}",
        num_classes=classes,
        image_shape=(image_shape[0], image_shape[1], image_shape[2]),
        sizes={split: shape[0] for split, shape in shapes.items()},
        class_names=tuple(str(label) for label in range(classes)),
        read=read,
    )


def _count_classes(path: Path) -> int:
    greatest = int(_array(path, "train_labels").max())
    if not 0 <= greatest < _MOST_CLASSES:
        raise DataError(
            f"{path}: the greatest of train_labels is {greatest}; labels number the classes from 0. If they are "
            "right, set data.dataset.num_classes"
        )
    return greatest + 1


def _headers(path: Path) -> dict[str, _Header]:
    """Shape and dtype of every array by name, without reading one."""
    headers = {}
    with reading(path, *_DAMAGE), zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            if not member.endswith(".npy"):
                continue
            with archive.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                # Version 3.0 differs in that names of fields may be in UTF-8; arrays with fields are refused anyway.
                parse = np.lib.format.read_array_header_1_0
                if version != (1, 0):
                    parse = np.lib.format.read_array_header_2_0
                shape, _, dtype = parse(stream)
            headers[member.removesuffix(".npy")] = _Header(shape, dtype)
    return headers


def _images_shape(path: Path, headers: dict[str, _Header], split: str) -> tuple[int, ...]:
    """N, H, W, C of a split by its headers, which have to be there and to fit together."""
    images_name, labels_name = f"{split}_images", f"{split}_labels"
    for name in (images_name, labels_name):
        if name not in headers:
            raise DataError(
                f"{path} holds no array {name!r}, only {', '.join(sorted(headers)) or 'nothing'}; save it with "
                "train_images, train_labels and, for a test split, test_images and test_labels"
            )
    images, labels = headers[images_name], headers[labels_name]
    if images.dtype != np.uint8 or len(images.shape) not in (3, 4) or 0 in images.shape:
        raise DataError(
            f"{path}: {images_name} is {images.dtype} of shape {images.shape}; images are uint8 of [N, H, W] or "
            "[N, H, W, C], N > 0"
        )
    if labels.dtype.kind not in "iu" or labels.shape not in ((images.shape[0],), (images.shape[0], 1)):
        raise DataError(
            f"{path}: {labels_name} is {labels.dtype} of shape {labels.shape}; the labels of {images.shape[0]:,} "
            f"images are whole numbers of shape {(images.shape[0],)}"
        )
    return images.shape if len(images.shape) == 4 else (*images.shape, 1)


def _array(path: Path, name: str) -> np.ndarray:
    with reading(f"{path}, array {name},", *_DAMAGE), np.load(path, allow_pickle=False) as archive:
        return np.asarray(archive[name])


def _labels(path: Path, split: str) -> np.ndarray:
    """int32[N]; a label that int32 cannot hold is out of every range and becomes -1."""
    labels = _array(path, f"{split}_labels").reshape(-1)
    small = labels.astype(np.int32)
    small[(labels < 0) | (labels > np.iinfo(np.int32).max)] = -1
    return small
