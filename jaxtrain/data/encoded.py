"""Splits whose images stay encoded, each in its own size, until an example is requested."""

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxtrain.augment.decode.window import CropWindow, Size
from jaxtrain.data.source import ArraySource, Example


class Encoded(NamedTuple):
    """One stored image.

    Attributes:
      content: the file's path, its bytes, or an array uint8[H, W, C].
      label: the label of its class.
      name: the image's name for messages.
    """

    content: Path | bytes | np.ndarray
    label: int
    name: str


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedSource:
    """Random access to the encoded images of a split or of a subset of it, from any thread.

    Attributes:
      count: the number of images.
      read: a function that returns the stored image at an index; it raises `DataError` if it cannot read the image.
      channels: the number of channels of decoded images: 1, 3 or 4.
      upright: whether images are rotated according to their EXIF data.
      number: a function from an index in this source to the index in the whole split, for messages.
    """

    count: int
    read: Callable[[int], Encoded]
    channels: int
    upright: bool = True
    number: Callable[[int], int] = int

    def __len__(self) -> int:
        return self.count

    def take(self, indices: np.ndarray) -> "EncodedSource":
        """Return the images at `indices`, in that order."""
        return dataclasses.replace(
            self,
            count=len(indices),
            read=lambda index: self.read(int(indices[index])),
            number=lambda index: self.number(indices[index]),
        )

    def example(self, index: int, window: Callable[[Size], CropWindow]) -> Example:
        """Decode the image at `index` and apply a window; raise `DataError` if it does not decode.

        Args:
          index: the index of the image.
          window: a function from an image's size to the window.
        """
        from jaxtrain.data.sources.images import crop_array, decode_window

        content, label, name = self.read(index)
        if isinstance(content, np.ndarray):
            return Example(crop_array(content, window), label)
        file = io.BytesIO(content) if isinstance(content, bytes) else content
        return Example(decode_window(file, name, self.channels, window, self.upright), label)


def wrap_as_encoded(name: str, source: ArraySource) -> EncodedSource:
    """Wrap a split in the host's memory as an `EncodedSource`, so that it can be streamed like encoded images."""

    def read(index: int) -> Encoded:
        return Encoded(source.images[index], int(source.labels[index]), f"{name}, example {index},")

    return EncodedSource(len(source), read, source.images.shape[3])
