"""Splits whose images are same-size arrays in files or in the host's memory, read many at a time."""

import dataclasses
from collections.abc import Callable

import numpy as np

from jaxtrain.data.source import ArraySource


@dataclasses.dataclass(frozen=True, eq=False)
class StoredSource:
    """Random access to same-size images of a split, many at a time and from any thread, without decoding.

    Attributes:
      count: the number of images.
      image_shape: the height, width and channels of every image.
      read: a function `(indices int64[n], images uint8[n, H, W, C] to write) -> labels int32[n]`. It raises `DataError`
        if a file cannot be read. An invalid label may become any number outside of the classes.
      read_labels: a function `indices int64[n] -> labels int32[n]`.
      number: a function from an index to the image's index in the whole split, for messages.
    """

    count: int
    image_shape: tuple[int, int, int]
    read: Callable[[np.ndarray, np.ndarray], np.ndarray]
    read_labels: Callable[[np.ndarray], np.ndarray]
    number: Callable[[int], int] = int

    def __len__(self) -> int:
        return self.count

    def take(self, indices: np.ndarray) -> "StoredSource":
        """Return the images at `indices`, in that order."""
        return dataclasses.replace(
            self,
            count=len(indices),
            read=lambda chosen, images: self.read(indices[chosen], images),
            read_labels=lambda chosen: self.read_labels(indices[chosen]),
            number=lambda index: self.number(indices[index]),
        )


def wrap_as_stored(source: ArraySource) -> StoredSource:
    """Wrap a split in the host's memory as a `StoredSource`, for data sets larger than the devices' memory."""
    images, labels = source.images, source.labels.astype(np.int32)

    def read(indices: np.ndarray, out: np.ndarray) -> np.ndarray:
        np.take(images, indices, axis=0, out=out, mode="clip")  # other modes copy through a buffer
        return labels[indices]

    height, width, channels = images.shape[1:]
    return StoredSource(len(source), (height, width, channels), read, lambda indices: labels[indices])
