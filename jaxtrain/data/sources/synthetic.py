"""Random images with labels that can be learned: for benchmarks and trials that should not depend on files."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxtrain.annotations import NonNegativeInt, PositiveInt
from jaxtrain.data.dataset import Dataset
from jaxtrain.data.source import ArraySource
from jaxtrain.errors import DataError, did_you_mean

_DEFAULTS: Mapping[str, Any] = {
    "image_shape": (32, 32, 3),
    "num_classes": 10,
    "sizes": {"train": 10_000, "test": 2_000},
}


def synthetic(
    *,
    like: str | None = None,
    height: PositiveInt | None = None,
    width: PositiveInt | None = None,
    channels: PositiveInt | None = None,
    num_classes: PositiveInt | None = None,
    train_examples: PositiveInt | None = None,
    test_examples: PositiveInt | None = None,
    seed: NonNegativeInt = 0,
) -> Dataset:
    """Images that are half a random template of their class and half noise; classes are as even as they can be.

    What is None comes from the data set that `like` names, or else is 32 x 32 x 3 in 10 classes, 10,000 and 2,000
    examples. The images are a function of the options alone: with one version of numpy, the same ones in every run.

    Args:
      like: a data set whose image shape, number of classes and sizes to take, such as "mnist".
      height: of the images.
      width: of the images.
      channels: of the images.
      num_classes: labels lie in [0, num_classes).
      train_examples: size of the train split.
      test_examples: size of the test split.
      seed: another seed gives other templates and other noise.

    Raises:
      DataError: `like` names no data set whose shape is known.
    """
    facts = _DEFAULTS if like is None else _facts(like)
    shape = (height or facts["image_shape"][0], width or facts["image_shape"][1], channels or facts["image_shape"][2])
    classes = num_classes or facts["num_classes"]
    sizes = {"train": train_examples or facts["sizes"]["train"], "test": test_examples or facts["sizes"]["test"]}
    return Dataset(
        name=f"synthetic {like}" if like else "synthetic",
        num_classes=classes,
        image_shape=shape,
        sizes=sizes,
        class_names=tuple(str(label) for label in range(classes)),
        read=lambda split: _draw(shape, classes, sizes[split], seed, list(sizes).index(split)),
    )


def _facts(like: str) -> Mapping[str, Any]:
    from jaxtrain.data import DATASETS  # here, since the table names this module

    known = {name: info.facts for name, info in DATASETS.items() if info.facts}
    if like not in known:
        raise DataError(f"synthetic: like={like!r} is no data set whose shape is known{did_you_mean(like, known)}")
    return known[like]


def _draw(shape: tuple[int, int, int], classes: int, count: int, seed: int, stream: int) -> ArraySource:
    """The templates come from the seed alone, labels and noise from the seed and the split's number."""
    templates = np.random.default_rng([seed]).integers(0, 128, (classes, *shape), np.uint8)
    rng = np.random.default_rng([seed, 1 + stream])
    labels = rng.permutation(np.arange(count, dtype=np.int32) % classes)
    images = rng.integers(0, 256, (count, *shape), np.uint8)
    images >>= 1  # below 128, so that the sum stays below 256
    images += templates[labels]
    return ArraySource(images, labels)
