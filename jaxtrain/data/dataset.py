"""What every source of data gives: splits with random access, and the facts that a model needs before any is read."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from jaxtrain.data.encoded import EncodedSource, encoded_arrays
from jaxtrain.data.source import ArraySource
from jaxtrain.data.stored import StoredSource, stored_arrays
from jaxtrain.errors import DataError, did_you_mean


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """A data set whose files were found, though not read: facts first, arrays on demand.

    Attributes:
      name: for messages.
      num_classes: labels lie in [0, num_classes).
      image_shape: height, width, channels of every image.
      sizes: number of examples by split; "train" is always there, "test" nearly always.
      class_names: one a class, in the order of the labels.
      read: reads a split; call `load`, which checks what it gives.
      encoded: gives a split without decoding it, every picture of its own size; None where arrays are all there is.
        Call `stream`.
      stored: gives a split whose images lie in files as arrays of one size, to be read a few at a time; None where
        they do not. Call `store`.
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
        """Reads a split and holds it to what the data set says of itself; `DataError` names what does not fit."""
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
        """The pictures of a split, decoded as they are wanted; where they are arrays, these are read."""
        if self.encoded is None or split not in self.sizes:
            return encoded_arrays(f"{self.name}, split {split}", self.load(split))
        return self.encoded(split)

    def store(self, split: str) -> StoredSource:
        """The images of a split, read many at a time as they are wanted; held in the host's memory where need be."""
        if self.stored is None or split not in self.sizes:
            return stored_arrays(self.load(split))
        return self.stored(split)
