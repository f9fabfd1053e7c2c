"""The 1,797 handwritten digits that scikit-learn includes: a real data set without a download."""

import gzip
import importlib.util
import zlib
from pathlib import Path

import numpy as np

from jaxtrain.data.dataset import Dataset
from jaxtrain.data.source import ArraySource
from jaxtrain.data.sources.files import reading
from jaxtrain.errors import DataError

_TRAIN, _TEST = 1437, 360
_LEVELS = 16


def digits() -> Dataset:
    """Return 8x8 gray images of the digits 0 to 9: 1,437 for training and 360 for test.

    The original values 0..16 become uint8 as `round(value * 255 / 16)`, and `round(pixel * 16 / 255)` restores them.
    The source is Alpaydin & Kaynak 1998, UCI Optical Recognition of Handwritten Digits (its test part, as in
    `sklearn.datasets.load_digits`).

    Raises:
      DataError: scikit-learn is not installed, or its copy of the data is damaged.

    Example:
      >>> import jaxtrain
      >>> train = jaxtrain.data.digits().load("train")
      >>> train.images.shape, train.labels[:5].tolist()
      ((1437, 8, 8, 1), [6, 5, 3, 4, 4])
    """
    path = _find()
    return Dataset(
        name="digits",
        num_classes=10,
        image_shape=(8, 8, 1),
        sizes={"train": _TRAIN, "test": _TEST},
        class_names=tuple(str(digit) for digit in range(10)),
        read=lambda split: _read(path, split),
    )


def _find() -> Path:
    # `find_spec` does not import the package, which would take most of a second; only the csv file is needed.
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("digits: scikit-learn, which includes the images, is not installed; install scikit-learn")
    return Path(spec.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")


def _read(path: Path, split: str) -> ArraySource:
    """Read a split from the csv file, in which each row has 64 pixels in 0..16 and the label."""
    with reading(path, ValueError, OverflowError, zlib.error), gzip.open(path, "rb") as file:
        table = np.array([line.split(b",") for line in file.read().splitlines()]).astype(np.uint8)
    if table.shape != (_TRAIN + _TEST, 65):
        raise DataError(f"{path} has a table of {table.shape}, not of {(_TRAIN + _TEST, 65)}; reinstall scikit-learn")
    # RandomState, not default_rng: numpy never changes its stream, so the test images are the same with every version.
    order = np.random.RandomState(0).permutation(len(table))
    rows = table[order[:_TEST] if split == "test" else order[_TEST:]]
    images = np.round(rows[:, :64] * (255 / _LEVELS)).astype(np.uint8).reshape(-1, 8, 8, 1)
    return ArraySource(images, rows[:, 64].astype(np.int32))
