"""Data sets in folders of images by split and class, SPLIT/CLASS/*.jpg."""

import os
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from jaxtrain.annotations import NonEmpty, PositiveInt
from jaxtrain.data.dataset import Dataset
from jaxtrain.data.encoded import Encoded, EncodedSource
from jaxtrain.data.source import ArraySource
from jaxtrain.data.sources.files import data_directory, is_directory, reading
from jaxtrain.data.sources.images import allocate, decode, fill
from jaxtrain.errors import DataError, did_you_mean

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".ppm")


def image_folder(
    *,
    directory: Path | None,
    subdirectory: str = "",
    size: tuple[PositiveInt, PositiveInt] = (224, 224),
    train: Annotated[str, NonEmpty()] = "train",
    test: Annotated[str, NonEmpty()] | None = "val",
    channels: Literal[1, 3] = 3,
) -> Dataset:
    """Return images in folders SPLIT/CLASS; the class names are the sorted folder names of the train split.

    Images are rotated upright (EXIF), scaled with antialiasing until they cover `size`, and center-cropped to it. With
    `data.decode`, those transforms apply instead, and `size` is ignored. Only files with the suffixes jpg, jpeg, png,
    bmp, webp, gif and ppm are read, and names that start with a dot are ignored.

    Args:
      directory: the data directory.
      subdirectory: the folder of the splits under `directory`.
      size: the height and width of the images.
      train: the folder of the train split.
      test: the folder of the test split; None for no test split.
      channels: the number of channels: 3 for RGB, 1 for gray.

    Raises:
      DataError: a folder is missing or has no images, or the test split has a class that is not in the train split.
        When a split is read, an image does not decode.

    Example:
      >>> from jaxtrain.config import DatasetSpec
      >>> print(DatasetSpec("image_folder", subdirectory="flowers", size=[64, 64]))
      image_folder(subdirectory='flowers', size=[64, 64], train='train', test='val', channels=3)
    """
    wanted = f"{Path(subdirectory, train)}/CLASS/*.jpg (or {', '.join(suffix[1:] for suffix in _SUFFIXES[1:])})"
    root = data_directory("image_folder", directory, wanted) / subdirectory
    classes = _folders(_find_split(root, train, "train"))
    if not classes:
        raise DataError(f"image_folder: {root / train} holds no folders; it must hold one folder per class")
    splits = {"train": _scan(root / train, classes)}
    if test is not None:
        splits["test"] = _scan(_find_split(root, test, "test"), classes)
    height, width = size

    def read(split: str) -> ArraySource:
        paths, labels = splits[split]
        images = allocate(len(paths), (height, width, channels))
        fill(images, lambda index: decode(paths[index], paths[index], channels, size), os.cpu_count() or 1)
        return ArraySource(images, labels)

    return Dataset(
        name=f"image_folder {root}",
        num_classes=len(classes),
        image_shape=(height, width, channels),
        sizes={split: len(paths) for split, (paths, _) in splits.items()},
        class_names=tuple(classes),
        read=read,
        encoded=lambda split: _open_encoded(*splits[split], channels),
    )


def _open_encoded(paths: list[Path], labels: np.ndarray, channels: int) -> EncodedSource:
    def read(index: int) -> Encoded:
        return Encoded(paths[index], int(labels[index]), str(paths[index]))

    return EncodedSource(len(paths), read, channels)


def _find_split(root: Path, name: str, option: str) -> Path:
    folder = root / name
    if not is_directory(folder):
        known = _folders(root) if is_directory(root) else []
        without = ", or test=None for no test split" if option == "test" else ""
        raise DataError(
            f"image_folder: there is no folder {folder}; set data.dataset.{option} to the name of one{without}"
            f"{did_you_mean(name, known)}"
        )
    return folder


def _scan(split: Path, classes: list[str]) -> tuple[list[Path], np.ndarray]:
    """Return the image files of a split, sorted by class and name, and their labels int32[N]."""
    extra = [name for name in _folders(split) if name not in classes]
    if extra:
        raise DataError(
            f"image_folder: {split / extra[0]} is the folder of a class that is not in the train split; "
            f"remove it, or add the class to the train split{did_you_mean(extra[0], classes)}"
        )
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        if not is_directory(split / name):
            raise DataError(f"image_folder: {split} has no folder {name!r}, but the train split has one; add it")
        files = [split / name / entry for entry in _names(split / name) if entry.lower().endswith(_SUFFIXES)]
        if not files:
            raise DataError(
                f"image_folder: {split / name} holds no image ({', '.join(_SUFFIXES)}); add some, or remove the class"
            )
        paths += files
        labels += [label] * len(files)
    return paths, np.array(labels, np.int32)


def _folders(path: Path) -> list[str]:
    return [name for name in _names(path) if is_directory(path / name)]


def _names(path: Path) -> list[str]:
    """Return the sorted names in a folder, without hidden files."""
    with reading(path):
        return sorted(name for name in os.listdir(path) if not name.startswith("."))
