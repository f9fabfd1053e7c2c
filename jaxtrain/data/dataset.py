"""The `Dataset` that every source returns: image shape, classes and sizes first, splits on demand."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from jaxtrain.data.encoded import EncodedSource, wrap_as_encoded
from jaxtrain.data.source import ArraySource
from jaxtrain.data.stored import StoredSource, wrap_as_stored
from jaxtrain.errors import DataError, did_you_mean


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """A data set whose files have been found but not yet read.

    Attributes:
      name: the data set's name for messages.
      num_classes: the number of classes; labels lie in [0, num_classes).
      image_shape: the height, width and channels of every image.
      sizes: the number of examples by split; "train" always exists, "test" nearly always.
      class_names: one name per class, in the order of the labels.
      read: a function that reads a split without checks; call `load` instead.
      encoded: a function that opens a split of encoded images, each with its own size; None if the data set has no
        encoded images. Call `stream` instead.
      stored: a function that opens a split of same-size arrays in files, read a few at a time; None if the data set has
        no such files. Call `store` instead.

    Example:
      >>> import jaxtrain
      >>> dataset = jaxtrain.data.synthetic(like="mnist")
      >>> dataset.image_shape, dataset.num_classes, dataset.sizes["train"]
      ((28, 28, 1), 10, 60000)
    """

    name: str
    num_classes: int
    image_shape: tuple[int, int, int]
    sizes: Mapping[str, int]
    class_names: tuple[str, ...]
    read: Callable[[str], ArraySource]
    encoded: Callable[[str], EncodedSource] | None = None
    stored: Callable[[str], StoredSource] | None = None

    def load(self, split: str) -> ArraySource:
        """Read a split into memory; raise `DataError` if its arrays do not match the attributes of the data set."""
        if split not in self.sizes:
            raise DataError(f"{self.name} has no split {split!r}{did_you_mean(split, self.sizes)}")
        source = self.read(split)
        shape = (self.sizes[split], *self.image_shape)
        if source.images.shape != shape or source.images.dtype != np.uint8:
            raise DataError(
                f"{self.name}, split {split}: expected uint8 images of shape {shape}, "
                f"got {source.images.dtype} of shape {source.images.shape}"
            )
        if source.labels.shape != shape[:1]:
            raise DataError(f"{self.name}, split {split}: {shape[0]} images, but labels of shape {source.labels.shape}")
        bad = np.flatnonzero((source.labels < 0) | (source.labels >= self.num_classes))
        if bad.size:
            raise DataError(
                f"{self.name}, split {split}: label {int(source.labels[bad[0]])} of example {int(bad[0])} is out of "
                f"range; with {self.num_classes} classes labels run from 0 to {self.num_classes - 1}"
            )
        return source

    def stream(self, split: str) -> EncodedSource:
        """Open a split as images that are decoded on demand; a data set without encoded images is read into memory."""
        if self.encoded is None or split not in self.sizes:
            return wrap_as_encoded(f"{self.name}, split {split}", self.load(split))
        return self.encoded(split)

    def store(self, split: str) -> StoredSource:
        """Open a split as same-size arrays that are read on demand, many at a time.

        A data set without such files is read into the host's memory.
        """
        if self.stored is None or split not in self.sizes:
            return wrap_as_stored(self.load(split))
        return self.stored(split)
