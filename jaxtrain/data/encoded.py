"""Splits whose pictures stay encoded, each of its own size, until they are wanted."""

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxtrain.augment.decode.window import Size, Window
from jaxtrain.data.source import ArraySource, Example


class Encoded(NamedTuple):
    """One picture as it is stored.

    `content` is a file, its bytes, or uint8[H, W, C]; `label` is that of its class; `name` is for messages.
    """

    content: Path | bytes | np.ndarray
    label: int
    name: str


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedSource:
    """Random access to the pictures of a split, from any thread.

    Attributes:
      count: how many there are.
      read: the stored picture at an index; `DataError` where it cannot be got at.
      channels: 1, 3 or 4 of the images that are made of them.
      upright: whether they are turned as their EXIF data says.
      number: what a picture is called in messages, by its index: its place in the whole split.
    """

    count: int
    read: Callable[[int], Encoded]
    channels: int
    upright: bool = True
    number: Callable[[int], int] = int

    def __len__(self) -> int:
        return self.count

    def take(self, indices: np.ndarray) -> "EncodedSource":
        """The pictures at `indices`, in that order."""
        return dataclasses.replace(
            self,
            count=len(indices),
            read=lambda index: self.read(int(indices[index])),
            number=lambda index: self.number(indices[index]),
        )

    def example(self, index: int, window: Callable[[Size], Window]) -> Example:
        """What the window for its size shows of the picture at `index`; `DataError` where it does not decode."""
        from jaxtrain.data.sources.images import decode_part, part_of

        content, label, name = self.read(index)
        if isinstance(content, np.ndarray):
            return Example(part_of(content, window), label)
        file = io.BytesIO(content) if isinstance(content, bytes) else content
        return Example(decode_part(file, name, self.channels, window, self.upright), label)


def encoded_arrays(name: str, source: ArraySource) -> EncodedSource:
    """A split held in the host's memory as pictures, so that it can be streamed as others are."""

    def read(index: int) -> Encoded:
        return Encoded(source.images[index], int(source.labels[index]), f"{name}, example {index},")

    return EncodedSource(len(source), read, source.images.shape[3])
