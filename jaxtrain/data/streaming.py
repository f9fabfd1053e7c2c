"""The streaming loader: pictures are decoded and augmented on the host, in threads, ahead of the step that needs them.

What a batch holds is a function of `(seed, step)` alone, as it is in memory: the order of the examples is the same, and
the numbers of an augmentation come from a generator that is keyed by the step and the place in the batch. Threads only
decide when. Pillow lets go of the interpreter while it decodes, so threads are as fast as processes are here, and cost
neither start nor copies. An element of Grain is a few images: all threads share the work on a batch.
"""

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Sharding

from jaxtrain.augment.host.chain import Chain
from jaxtrain.data.dataset import ArraySource, Example
from jaxtrain.data.encoded import EncodedSource
from jaxtrain.data.loader import Arrays
from jaxtrain.errors import DataError

_GROUP = 8
"""Images that a thread decodes at a time."""
_BATCHES_AHEAD = 2
_ALIGNMENT = 64
_NO_DRAWS = np.random.RandomState(0)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class ExampleOrder:
    """The endless sequence of the examples of a split, a permutation an epoch: that of `loader.Shuffle`."""

    def __init__(self, draw: Callable[[int], np.random.RandomState], examples: int):
        self._examples = examples
        self._permutation = functools.lru_cache(maxsize=4)(lambda epoch: draw(epoch).permutation(examples))

    def __getitem__(self, position: int) -> int:
        epoch, place = divmod(position, self._examples)
        return int(self._permutation(epoch)[place])


@dataclasses.dataclass(frozen=True, eq=False)
class StreamedSplit:
    """A split that is decoded as it is wanted, by a chain that draws nothing.

    Attributes:
      name: of the data set and the split, for messages.
      source: the pictures.
      chain: what is made of each when the split is looked at, in evaluation and when preprocessing is fitted.
      num_classes: labels lie in [0, num_classes).
      workers: threads that decode; 0 for none but the caller's.
    """

    name: str
    source: EncodedSource
    chain: Chain
    num_classes: int
    workers: int

    def __len__(self) -> int:
        return len(self.source)

    def take(self, indices: np.ndarray) -> "StreamedSplit":
        """The examples at `indices`, in that order."""
        return dataclasses.replace(self, source=self.source.take(indices))

    def example(self, index: int, chain: Chain, draws: np.random.RandomState) -> Example:
        """What `chain` makes of a picture; `DataError` where it does not decode or its label is out of range."""
        found = self.source.example(index, functools.partial(chain.window, draws))
        if not 0 <= found.label < self.num_classes:
            raise DataError(
                f"{self.name}: label {found.label} of example {index} is out of range; with {self.num_classes} classes "
                f"labels run from 0 to {self.num_classes - 1}"
            )
        return found

    @property
    def labels(self) -> np.ndarray:
        """int32[N]; no picture is decoded for them."""
        return np.array([self.source.read(index).label for index in range(len(self))], np.int32)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels of what is made of every picture."""
        width, height = self.chain.size
        return height, width, self.source.channels

    def chunks(self, size: int) -> Iterator[ArraySource]:
        """The whole split in its order, `size` examples at a time; the last chunk may be smaller."""
        groups = Groups(len(self), size)
        with Ahead(
            lambda i: self.example(i, self.chain, _NO_DRAWS), self.image_shape, groups, 0, self.workers
        ) as ready:
            for _ in range(groups.batches):
                yield next(ready)


@dataclasses.dataclass(frozen=True)
class Groups:
    """Cuts `count` positions into batches of `size`, and each of these into groups; groups are counted through."""

    count: int
    size: int

    @property
    def batches(self) -> int:
        """How many batches there are, of which the last may be smaller."""
        return -(-self.count // self.size)

    @property
    def total(self) -> int:
        """How many groups there are."""
        return (self.batches - 1) * self.of_batch(0) + self.of_batch(self.batches - 1)

    def of_batch(self, batch: int) -> int:
        """How many groups the batch has."""
        return -(-self.in_batch(batch) // _GROUP)

    def in_batch(self, batch: int) -> int:
        """How many positions it has."""
        return min(self.size, self.count - batch * self.size)

    def positions(self, number: int) -> range:
        """The positions in a group."""
        batch, place = divmod(number, self.of_batch(0))
        start = batch * self.size + place * _GROUP
        return range(start, min(start + _GROUP, (batch + 1) * self.size, self.count))


class Ahead:
    """Batches in order, of which `workers` threads make the next ones while the caller uses one.

    What `example` raises is raised by the `next` that would have given its batch.

    Args:
      example: the example at a position, from any thread.
      shape: of every image.
      groups: how positions make batches.
      first: the batch to begin with.
      workers: 0 for none: `next` does the work.
    """

    def __init__(
        self, example: Callable[[int], Example], shape: tuple[int, int, int], groups: Groups, first: int, workers: int
    ):
        import grain

        self._groups, self._batch = groups, first
        self._images: dict[int, np.ndarray] = {}

        def read(number: int) -> list[int]:
            """Puts the examples of a group into the images of their batch, and returns their labels."""
            batch, positions = number // groups.of_batch(0), groups.positions(number)
            images = self._images.get(batch)
            if images is None:  # of several threads that come here, the first one's array is taken
                images = self._images.setdefault(batch, _aligned((groups.in_batch(batch), *shape)))
            labels = []
            for position in positions:
                images[position - batch * groups.size], label = example(position)
                labels.append(label)
            return labels

        ahead = _BATCHES_AHEAD * groups.of_batch(0) + workers if workers else 0
        options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=ahead)
        numbers: Any = grain.MapDataset.range(first * groups.of_batch(0), groups.total).map(read)
        self._labels = iter(numbers.to_iter_dataset(options))

    def __next__(self) -> ArraySource:
        labels = [label for _ in range(self._groups.of_batch(self._batch)) for label in next(self._labels)]
        images = self._images.pop(self._batch)
        self._batch += 1
        return ArraySource(images, np.array(labels, np.int32))

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drops what is not begun; threads end when they have done what they are at."""
        self._labels.close()


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """uint8, at an address at which XLA takes it on a CPU without a copy."""
    size = math.prod(shape)
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].reshape(shape)


class TrainingStream:
    """Gives the batch of a step, laid out over the devices; those of the next steps are being made meanwhile.

    Args:
      split: the training split.
      chain: what is made of its pictures.
      draws: from a step and the place in its batch to the numbers of that example.
      order: which example stands at each position of the run.
      batch_size: examples in a step.
      total_steps: of the run; nothing is decoded beyond them.
      divided: the sharding of a batch.
    """

    def __init__(
        self,
        split: StreamedSplit,
        chain: Chain,
        draws: Callable[[int, int], np.random.RandomState],
        order: ExampleOrder,
        batch_size: int,
        total_steps: int,
        divided: Sharding,
    ):
        self._split, self._chain, self._draws, self._order = split, chain, draws, order
        self._groups = Groups(batch_size * total_steps, batch_size)
        self._divided = divided
        self._next_step = -1
        self._ahead: Ahead | None = None

    def __call__(self, step: int) -> Arrays:
        """The batch of `step`; fast where steps are asked for one after the other."""
        if self._ahead is None or step != self._next_step:
            self.close()
            self._ahead = Ahead(self._example, self._split.image_shape, self._groups, step, self._split.workers)
        batch = next(self._ahead)
        self._next_step = step + 1
        return Arrays(*jax.device_put((batch.images, batch.labels), self._divided))

    def close(self) -> None:
        """Ends the work on later batches."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def _example(self, position: int) -> Example:
        draws = self._draws(*divmod(position, self._groups.size))
        return self._split.example(self._order[position], self._chain, draws)
