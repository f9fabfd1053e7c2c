"""Splits whose images are arrays of one size in files or in the host's memory, read many at a time."""

import dataclasses
from collections.abc import Callable

import numpy as np

from jaxtrain.data.source import ArraySource


@dataclasses.dataclass(frozen=True, eq=False)
class StoredSource:
    """Random access to the images of a split, many at a time and from any thread; nothing needs decoding.

    Attributes:
      count: how many there are.
      image_shape: height, width, channels of every image.
      read: `(indices int64[n], images uint8[n, H, W, C] to be written) -> labels int32[n]`; `DataError` where a file
        cannot be read. A label that is no class number may be any number outside of the classes.
      read_labels: `indices int64[n] -> labels int32[n]`.
      number: what an image is called in messages, by its index: its place in the whole split.
    """

    count: int
    image_shape: tuple[int, int, int]
    read: Callable[[np.ndarray, np.ndarray], np.ndarray]
    read_labels: Callable[[np.ndarray], np.ndarray]
    number: Callable[[int], int] = int

    def __len__(self) -> int:
        return self.count

    def take(self, indices: np.ndarray) -> "StoredSource":
        """The images at `indices`, in that order."""
        return dataclasses.replace(
            self,
            count=len(indices),
            read=lambda places, images: self.read(indices[places], images),
            read_labels=lambda places: self.read_labels(indices[places]),
            number=lambda place: self.number(indices[place]),
        )


def stored_arrays(source: ArraySource) -> StoredSource:
    """A split that lies in the host's memory: for more images than the devices hold."""
    images, labels = source.images, source.labels.astype(np.int32)

    def read(indices: np.ndarray, out: np.ndarray) -> np.ndarray:
        np.take(images, indices, axis=0, out=out, mode="clip")  # any other mode goes through a buffer
        return labels[indices]

    height, width, channels = images.shape[1:]
    return StoredSource(len(source), (height, width, channels), read, lambda indices: labels[indices])
