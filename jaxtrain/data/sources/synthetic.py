"""Random images with learnable labels, for benchmarks and tests without files."""

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
    """Return random images: half a random template of their class, half noise; the classes are balanced.

    Options that are None take their value from the data set `like`. Without `like`, images are 32 x 32 x 3 in 10
    classes, with 10,000 training and 2,000 test examples. The images depend only on the options: with the same version
    of numpy they are the same in every run.

    Args:
      like: the data set whose image shape, number of classes and sizes are used, such as "mnist".
      height: the height of the images.
      width: the width of the images.
      channels: the number of channels of the images.
      num_classes: the number of classes; labels lie in [0, num_classes).
      train_examples: the size of the train split.
      test_examples: the size of the test split.
      seed: the seed of the templates and the noise.

    Raises:
      DataError: `like` is not a data set with a known shape.

    Example:
      >>> import jaxtrain
      >>> dataset = jaxtrain.data.synthetic(like="cifar10", train_examples=6, test_examples=4, num_classes=3)
      >>> train = dataset.load("train")
      >>> train.images.shape, train.labels.tolist()
      ((6, 32, 32, 3), [1, 1, 0, 0, 2, 2])
    """
    defaults = _DEFAULTS if like is None else _find_reference(like)
    image_shape, split_sizes = defaults["image_shape"], defaults["sizes"]
    shape = (height or image_shape[0], width or image_shape[1], channels or image_shape[2])
    classes = num_classes or defaults["num_classes"]
    sizes = {"train": train_examples or split_sizes["train"], "test": test_examples or split_sizes["test"]}
    return Dataset(
        name=f"synthetic {like}" if like else "synthetic",
        num_classes=classes,
        image_shape=shape,
        sizes=sizes,
        class_names=tuple(str(label) for label in range(classes)),
        read=lambda split: _draw(shape, classes, sizes[split], seed, list(sizes).index(split)),
    )


def _find_reference(like: str) -> Mapping[str, Any]:
    from jaxtrain.data import DATASETS  # not at the top, since the registry imports this module

    known = {name: info.reference for name, info in DATASETS.items() if info.reference}
    if like not in known:
        raise DataError(f"synthetic: like={like!r} is not a data set with a known shape{did_you_mean(like, known)}")
    return known[like]


def _draw(shape: tuple[int, int, int], classes: int, count: int, seed: int, stream: int) -> ArraySource:
    """Draw a split; the templates depend only on the seed, labels and noise on the seed and the split's number."""
    templates = np.random.default_rng([seed]).integers(0, 128, (classes, *shape), np.uint8)
    rng = np.random.default_rng([seed, 1 + stream])
    labels = rng.permutation(np.arange(count, dtype=np.int32) % classes)
    images = rng.integers(0, 256, (count, *shape), np.uint8)
    images >>= 1  # below 128, so that the sum stays below 256
    images += templates[labels]
    return ArraySource(images, labels)
