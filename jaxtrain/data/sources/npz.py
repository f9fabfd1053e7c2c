"""A data set in one .npz file, as numpy.savez writes it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from jaxtrain.annotations import NonEmpty, PositiveInt
from jaxtrain.data.dataset import Dataset
from jaxtrain.data.source import ArraySource
from jaxtrain.data.sources.files import FileSet, Search
from jaxtrain.data.sources.npy_files import Header, check_examples, convert_labels, memory_map, npz_headers, read_npz
from jaxtrain.data.stored import StoredSource, wrap_as_stored
from jaxtrain.errors import DataError

# More than any data set has; larger labels are probably identifiers.
_MOST_CLASSES = 1_000_000


def npz(*, directory: Path | None, file: Annotated[str, NonEmpty()], num_classes: PositiveInt | None = None) -> Dataset:
    """Return images and labels from one .npz file.

    Its arrays are `train_images`, `train_labels` and, for a test split, `test_images` and `test_labels`. Images are
    uint8 of [N, H, W] or [N, H, W, C], labels are integers of [N] or [N, 1]. Pickled (object) arrays are rejected.

    Args:
      directory: the data directory.
      file: the path of the .npz file relative to `directory`.
      num_classes: the number of classes; labels lie in [0, num_classes). None for the largest label of the train split
        plus one.

    Raises:
      DataError: the file is missing or damaged, or its arrays are not as described.

    Example:
      >>> import pathlib, tempfile
      >>> import numpy as np
      >>> import jaxtrain
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     np.savez(f"{folder}/tiny.npz", train_images=np.zeros((4, 8, 8), np.uint8), train_labels=[0, 1, 2, 1])
      ...     dataset = jaxtrain.data.npz(directory=pathlib.Path(folder), file="tiny.npz")
      >>> dataset.image_shape, dataset.num_classes
      ((8, 8, 1), 3)
    """
    found = Search("npz", directory, ("",)).find(FileSet("npz", ((file,),), file))
    path = found.files[0]
    headers = npz_headers(path)
    splits = ["train", "test"] if {"test_images", "test_labels"} & headers.keys() else ["train"]
    shapes = {split: _images_shape(path, headers, split) for split in splits}
    image_shape = shapes["train"][1:]
    if "test" in shapes and shapes["test"][1:] != image_shape:
        raise DataError(
            f"{path}: test images are of shape {shapes['test'][1:]}, train images of shape {image_shape}; "
            "the two splits must have images of the same shape"
        )
    classes = num_classes or _count_classes(path)

    def read(split: str) -> ArraySource:
        images = read_npz(path, f"{split}_images").reshape(shapes[split])
        return ArraySource(images, convert_labels(read_npz(path, f"{split}_labels")))

    def read_stored(split: str) -> StoredSource:
        arrays = {name: headers[name] for name in (f"{split}_images", f"{split}_labels")}
        if any(header.offset is None for header in arrays.values()):  # compressed data cannot be read in parts
            return wrap_as_stored(read(split))
        images, labels = memory_map(path, arrays).values()
        return wrap_as_stored(ArraySource(images.reshape(shapes[split]), convert_labels(labels)))

    return Dataset(
        name=f"npz {path.name}",
        num_classes=classes,
        image_shape=(image_shape[0], image_shape[1], image_shape[2]),
        sizes={split: shape[0] for split, shape in shapes.items()},
        class_names=tuple(str(label) for label in range(classes)),
        read=read,
        stored=read_stored,
    )


def _count_classes(path: Path) -> int:
    largest = int(read_npz(path, "train_labels").max())
    if not 0 <= largest < _MOST_CLASSES:
        raise DataError(
            f"{path}: the largest of train_labels is {largest}; labels must number the classes from 0. If they are "
            "right, set data.dataset.num_classes"
        )
    return largest + 1


def _images_shape(path: Path, headers: Mapping[str, Header], split: str) -> tuple[int, ...]:
    """Return the shape (N, H, W, C) of a split from its headers, which must exist and match."""
    images_name, labels_name = f"{split}_images", f"{split}_labels"
    for name in (images_name, labels_name):
        if name not in headers:
            raise DataError(
                f"{path} holds no array {name!r}, only {', '.join(sorted(headers)) or 'nothing'}; save it with the "
                "arrays train_images, train_labels and, for a test split, test_images and test_labels"
            )
    images, labels = headers[images_name], headers[labels_name]
    check_examples((path, images_name, images), (path, labels_name, labels))
    return images.shape if len(images.shape) == 4 else (*images.shape, 1)
