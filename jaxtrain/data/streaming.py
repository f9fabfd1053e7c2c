"""The streaming loader: threads of the host make a batch ahead of the step that needs it; then it goes to the device.

What a batch holds is a function of `(seed, step)` alone, as it is in memory: the order of the examples is the same, and
the numbers of an augmentation come from a generator that is keyed by the step and the place in the batch. Threads only
decide when. Pictures are decoded and augmented; images that are stored as arrays of one size are gathered as they are.
Pillow and numpy let go of the interpreter while they work, so threads are as fast as processes are here, and cost
neither start nor copies.
"""

import collections
import dataclasses
import functools
import math
import os
from collections.abc import Callable, Iterator

import numpy as np
from jax.sharding import Sharding

from jaxtrain.augment.decode.chain import Chain
from jaxtrain.data.dataset import ArraySource, Example
from jaxtrain.data.encoded import EncodedSource
from jaxtrain.data.example_order import Order
from jaxtrain.data.loader import Arrays
from jaxtrain.data.prefetch import Ahead, Groups
from jaxtrain.data.preprocessing.resizing import pad_images, resize_images, resized_shape
from jaxtrain.data.stored import StoredSource
from jaxtrain.errors import DataError
from jaxtrain.sharding import placed_shares

_PICTURES = 8
_STORED_BYTES = 2**22
"""What a thread takes at a time: pictures to be decoded, or so much of stored images: a whole batch of small ones."""
PLACED_AHEAD = 2
"""Batches on their way to the device before a step asks for them."""
_NO_DRAWS = np.random.RandomState(0)

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
        """The examples at `indices`, in that order."""
        return dataclasses.replace(self, source=self.source.take(indices))

    def padded(self, margin: int) -> "StreamedSplit":
        """The same with `margin` pixels of 0 on each side of every image."""
        return dataclasses.replace(self, margin=margin)

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
            return self.fill(indices, images, self.chain, lambda _: _NO_DRAWS)

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


class TrainingStream:
    """Gives the batch of a step, laid out over the devices; those of the next steps are being made meanwhile.

    A batch that is ready is put on the device one or two steps before its own, so that it is copied while another is
    computed with.

    Args:
      split: the training split.
      chain: what is made of its pictures; None for arrays.
      draws: from a step and the place in its batch to the numbers of that example.
      order: which example stands at each position of the run.
      batch_size: examples in a step, over all processes.
      total_steps: of the run; nothing is read beyond them.
      divided: the sharding of a batch.
      share: `(index, count)` of this process among those that share every batch: it reads its own part of each alone.
    """

    def __init__(
        self,
        split: StreamedSplit,
        chain: Chain | None,
        draws: Callable[[int, int], np.random.RandomState],
        order: Order,
        batch_size: int,
        total_steps: int,
        divided: Sharding,
        share: tuple[int, int] = (0, 1),
    ):
        self._split, self._chain, self._draws, self._order = split, chain, draws, order
        self._groups = Groups(batch_size * total_steps, batch_size, split.at_a_time, share)
        self._divided = divided
        self._next_step = -1
        self._ahead: Ahead | None = None
        self._placed: collections.deque[Arrays] = collections.deque()

    def __call__(self, step: int) -> Arrays:
        """The batch of `step`; fast where steps are asked for one after the other."""
        ahead = self._from(step)
        batch = self._placed.popleft() if self._placed else self._place(next(ahead))
        while len(self._placed) < PLACED_AHEAD and ahead.is_ready:
            self._placed.append(self._place(next(ahead)))
        return batch

    def on_host(self, step: int) -> ArraySource:
        """This process's share of the batch of `step`, in its memory."""
        self.close()
        with self._ahead_of(step) as ahead:
            return next(ahead)

    def close(self) -> None:
        """Ends the work on later batches."""
        self._placed.clear()
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def _from(self, step: int) -> Ahead:
        """What makes the batches from that of `step` on, less those that are placed."""
        if self._ahead is None or step != self._next_step:
            self.close()
            self._ahead = self._ahead_of(step)
        self._next_step = step + 1
        return self._ahead

    def _ahead_of(self, step: int) -> Ahead:
        return Ahead(self._fill, self._split.image_shape, self._groups, step, self._split.workers)

    def _place(self, batch: ArraySource) -> Arrays:
        return Arrays(*placed_shares((batch.images, batch.labels), self._divided, self._groups.share[1]))

    def _fill(self, positions: range, images: np.ndarray) -> np.ndarray:
        step, first = divmod(positions.start, self._groups.size)
        indices = self._order.at(positions)
        if self._chain is None or not self._chain.random():  # a generator costs as much as decoding a small picture
            return self._split.fill(indices, images, self._chain, lambda _: _NO_DRAWS)
        return self._split.fill(indices, images, self._chain, lambda place: self._draws(step, first + place))
