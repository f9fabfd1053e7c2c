"""Streamed splits: threads of the host prepare each batch ahead of the step that needs it.

A batch is a function of `(seed, step)` alone, as with data in memory. The order of the examples is the same.
Random draws of an augmentation come from a generator that is keyed by the step and the index in the batch. Threads
affect only the timing.

Encoded images are decoded and augmented; same-size arrays are gathered unchanged. Pillow and numpy release the GIL
while they work, so threads are as fast as processes here, without their start-up and copies.
"""

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from jaxtrain.augment.decode.chain import DecodeChain
from jaxtrain.data.device_stream import DeviceStream
from jaxtrain.data.encoded import EncodedSource
from jaxtrain.data.prefetch import BatchGroups, Prefetcher
from jaxtrain.data.preprocessing.resizing import output_shape, pad_images, resize_images
from jaxtrain.data.source import ArraySource, Example
from jaxtrain.data.stored import StoredSource
from jaxtrain.errors import DataError

if TYPE_CHECKING:
    from jaxtrain.distributed.mesh import Layout


_PICTURES = 8
_STORED_BYTES = 2**22
"""The unit of work of a thread: a number of images to decode, or a number of bytes of stored images."""
NO_DRAWS = np.random.RandomState(0)

Draws = Callable[[int], np.random.RandomState]
"""A function from an example's position in the arrays being filled to its random generator."""


def available_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclasses.dataclass(frozen=True, eq=False)
class StreamedSplit:
    """A split that is read on demand.

    Attributes:
      name: the name of the data set and the split, for messages.
      source: the encoded images, or images as same-size arrays.
      chain: the decode transforms for evaluation and for fitting the preprocessing, without random draws. None for
        arrays.
      num_classes: the number of classes; labels lie in [0, num_classes).
      workers: the number of threads that read; 0 for only the caller's.
      resize: the height and width to which images are resampled after decoding; None for no resampling.
      margin: the number of zero pixels added on each side after resampling.
    """

    streamed: ClassVar[bool] = True
    name: str
    source: EncodedSource | StoredSource
    chain: DecodeChain | None
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
        """Return the split for evaluation, which copies its examples to the devices on demand."""
        return DeviceStream(self, layout)

    @property
    def labels(self) -> np.ndarray:
        """The labels int32[N]; they are read without decoding images."""
        if isinstance(self.source, StoredSource):
            return self.source.read_labels(np.arange(len(self)))
        return np.array([self.source.read(index).label for index in range(len(self))], np.int32)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The height, width and channels of every image after all transforms."""
        return output_shape(self._read_shape, self.resize, self.margin)

    @property
    def at_a_time(self) -> int:
        """The number of examples in a thread's unit of work."""
        if isinstance(self.source, EncodedSource):
            return _PICTURES
        return max(_STORED_BYTES // math.prod(self.image_shape), 1)

    def fill(self, indices: np.ndarray, images: np.ndarray, chain: DecodeChain | None, draws: Draws) -> np.ndarray:
        """Write the images at `indices` into `images` and return their labels int32[n].

        Args:
          indices: the indices int64[n] of the examples.
          images: the output array uint8[n, H, W, C].
          chain: the decode transforms; None for arrays.
          draws: the random generators of the examples for the decode transforms.

        Raises:
          DataError: an image cannot be read or decoded, or a label is out of range.
        """
        final_size = self.image_shape == self._read_shape
        read = images if final_size else np.empty((len(indices), *self._read_shape), np.uint8)
        if isinstance(self.source, StoredSource):
            labels = self.source.read(indices, read)
            for bad in np.flatnonzero((labels < 0) | (labels >= self.num_classes))[:1]:
                self._check_label(int(labels[bad]), int(indices[bad]))
        else:
            assert chain is not None
            labels = np.empty(len(indices), np.int32)
            for position, index in enumerate(indices):
                read[position], labels[position] = self._decode(self.source, int(index), chain, draws(position))
        if not final_size:
            resized = read if self.resize is None else resize_images(read, self.resize)
            images[...] = pad_images(resized, self.margin)
        return labels

    def chunks(self, size: int, share: tuple[int, int] = (0, 1), multiple: int = 1) -> Iterator[ArraySource]:
        """Yield the whole split in order, `size` examples at a time; the last chunk may be smaller.

        Args:
          size: the number of examples in a chunk, over all processes.
          share: `(index, count)` of this process among the processes that share every chunk; it reads only its own part
            of each.
          multiple: the number whose multiple the last chunk is padded to, by repeating the last example.
        """
        count = -(-len(self) // multiple) * multiple
        groups = BatchGroups(count, size, self.at_a_time, share)

        def fill(positions: range, images: np.ndarray) -> np.ndarray:
            indices = np.minimum(positions, len(self) - 1)
            return self.fill(indices, images, self.chain, lambda _: NO_DRAWS)

        with Prefetcher(fill, self.image_shape, groups, 0, self.workers) as ready:
            for _ in range(groups.batches):
                yield next(ready)

    @property
    def _read_shape(self) -> tuple[int, int, int]:
        if isinstance(self.source, StoredSource):
            return self.source.image_shape
        assert self.chain is not None
        width, height = self.chain.size
        return height, width, self.source.channels

    def _decode(self, source: EncodedSource, index: int, chain: DecodeChain, draws: np.random.RandomState) -> Example:
        example = source.example(index, functools.partial(chain.window, draws))
        self._check_label(example.label, index)
        return example

    def _check_label(self, label: int, index: int) -> None:
        if not 0 <= label < self.num_classes:
            raise DataError(
                f"{self.name}: label {label} of example {self.source.number(index)} is out of range; with "
                f"{self.num_classes} classes labels run from 0 to {self.num_classes - 1}"
            )
