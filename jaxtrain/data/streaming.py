"""A split that is streamed: threads of the host make a batch ahead of the step that needs it.

if TYPE_CHECKING:
    from jaxtrain.distributed.mesh import Layout

What a batch holds is a function of `(seed, step)` alone, as it is in memory: the order of the examples is the same, and
the numbers of an augmentation come from a generator that is keyed by the step and the place in the batch. Threads only
decide when. Pictures are decoded and augmented; images that are stored as arrays of one size are gathered as they are.
Pillow and numpy let go of the interpreter while they work, so threads are as fast as processes are here, and cost
neither start nor copies.
"""

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from jaxtrain.augment.decode.chain import Chain
from jaxtrain.data.device_stream import DeviceStream
from jaxtrain.data.encoded import EncodedSource
from jaxtrain.data.prefetch import Ahead, Groups
from jaxtrain.data.preprocessing.resizing import pad_images, resize_images, resized_shape
from jaxtrain.data.source import ArraySource, Example
from jaxtrain.data.stored import StoredSource
from jaxtrain.errors import DataError

if TYPE_CHECKING:
    from jaxtrain.distributed.mesh import Layout


_PICTURES = 8
_STORED_BYTES = 2**22
"""What a thread takes at a time: pictures to be decoded, or so much of stored images: a whole batch of small ones."""
NO_DRAWS = np.random.RandomState(0)

Draws = Callable[[int], np.random.RandomState]
"""From the place of an example, among those that are made together, to its numbers."""


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclasses.dataclass(frozen=True, eq=False)
class StreamedSplit:
    """A split that is read as it is wanted.

    Attributes:
      name: of the data set and the split, for messages.
      source: the pictures, or images as arrays of one size.
      chain: what is made of each picture when the split is looked at, in evaluation and when preprocessing is fitted;
        it draws nothing. None for arrays.
      num_classes: labels lie in [0, num_classes).
      workers: threads that read; 0 for none but the caller's.
      resize: height and width to which the images are resampled after that.
      margin: pixels of 0 on each side of what is then there.
    """

    streamed: ClassVar[bool] = True
    name: str
    source: EncodedSource | StoredSource
    chain: Chain | None
    num_classes: int
    workers: int
    resize: tuple[int, int] | None = None
    margin: int = 0

    def __len__(self) -> int:
        return len(self.source)

    def take(self, indices: np.ndarray) -> "StreamedSplit":
        """Return the examples at `indices`, in that order."""
        return dataclasses.replace(self, source=self.source.take(indices))

    def pad(self, margin: int) -> "StreamedSplit":
        """Return the split with `margin` pixels of 0 on each side of every image."""
        return dataclasses.replace(self, margin=margin)

    def place(self, layout: "Layout") -> "DeviceStream":
        """Return what puts the examples on the devices as they are wanted."""
        return DeviceStream(self, layout)

    @property
    def labels(self) -> np.ndarray:
        """int32[N]; no picture is decoded for them."""
        if isinstance(self.source, StoredSource):
            return self.source.read_labels(np.arange(len(self)))
        return np.array([self.source.read(index).label for index in range(len(self))], np.int32)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels of what is made of every example."""
        return resized_shape(self._read_shape, self.resize, self.margin)

    @property
    def at_a_time(self) -> int:
        """How many examples a thread makes at a time."""
        if isinstance(self.source, EncodedSource):
            return _PICTURES
        return max(_STORED_BYTES // math.prod(self.image_shape), 1)

    def fill(self, indices: np.ndarray, images: np.ndarray, chain: Chain | None, draws: Draws) -> np.ndarray:
        """Writes the images at `indices` int64[n] into `images` uint8[n, H, W, C], and returns their labels int32[n].

        Args:
          indices: of the examples.
          images: what is written.
          chain: what is made of pictures; None for arrays.
          draws: the numbers that the chain may draw from.

        Raises:
          DataError: an image cannot be read or decoded, or a label is out of range.
        """
        as_read = self.image_shape == self._read_shape
        read = images if as_read else np.empty((len(indices), *self._read_shape), np.uint8)
        if isinstance(self.source, StoredSource):
            labels = self.source.read(indices, read)
            for place in np.flatnonzero((labels < 0) | (labels >= self.num_classes))[:1]:
                self._check(int(labels[place]), int(indices[place]))
        else:
            assert chain is not None
            labels = np.empty(len(indices), np.int32)
            for place, index in enumerate(indices):
                read[place], labels[place] = self._example(self.source, int(index), chain, draws(place))
        if not as_read:
            sized = read if self.resize is None else resize_images(read, self.resize)
            images[...] = pad_images(sized, self.margin)
        return labels

    def chunks(self, size: int, share: tuple[int, int] = (0, 1), multiple: int = 1) -> Iterator[ArraySource]:
        """The whole split in its order, `size` examples at a time; the last chunk may be smaller.

        Args:
          size: of a chunk, over all processes.
          share: `(index, count)` of a process among those that share every chunk: it reads its own stretch of each
            alone.
          multiple: the last chunk is filled up to a multiple of this, by more of the last example.
        """
        count = -(-len(self) // multiple) * multiple
        groups = Groups(count, size, self.at_a_time, share)

        def fill(positions: range, images: np.ndarray) -> np.ndarray:
            indices = np.minimum(positions, len(self) - 1)
            return self.fill(indices, images, self.chain, lambda _: NO_DRAWS)

        with Ahead(fill, self.image_shape, groups, 0, self.workers) as ready:
            for _ in range(groups.batches):
                yield next(ready)

    @property
    def _read_shape(self) -> tuple[int, int, int]:
        if isinstance(self.source, StoredSource):
            return self.source.image_shape
        assert self.chain is not None
        width, height = self.chain.size
        return height, width, self.source.channels

    def _example(self, source: EncodedSource, index: int, chain: Chain, draws: np.random.RandomState) -> Example:
        found = source.example(index, functools.partial(chain.window, draws))
        self._check(found.label, index)
        return found

    def _check(self, label: int, index: int) -> None:
        if not 0 <= label < self.num_classes:
            raise DataError(
                f"{self.name}: label {label} of example {self.source.number(index)} is out of range; with "
                f"{self.num_classes} classes labels run from 0 to {self.num_classes - 1}"
            )
