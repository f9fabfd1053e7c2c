"""Batches made ahead of their use: which positions of a run a batch holds, and threads that fill its arrays.

A thread takes a group of positions at a time, a few pictures that are to be decoded or a whole batch of stored arrays,
and writes what stands there into the arrays of the batch: per-image work in Python only where decoding needs it.
"""

import collections
import dataclasses
import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxtrain.data.source import ArraySource

_BATCHES_AHEAD = 2
_ALIGNMENT = 64

Fill = Callable[[range, np.ndarray], np.ndarray]
"""`(positions, images uint8[n, H, W, C] to be written) -> labels int32[n]`, from any thread."""


@dataclasses.dataclass(frozen=True)
class Groups:
    """Cuts `count` positions into batches of `size`, and each of these into groups; groups are counted through.

    Attributes:
      count: positions, over all batches.
      size: positions in a batch, over all processes.
      at_a_time: positions in a group, at the most.
      share: `(index, count)` of a process among those that share every batch, one stretch of it each: the stretches of
        all of them, one after the other, are the batch.

    Raises:
      ValueError: a batch does not divide among the processes. All of them have as many groups, by which these count.
    """

    count: int
    size: int
    at_a_time: int = 8
    share: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        processes = self.share[1]
        for batch in {min(self.size, self.count), self.count % self.size}:
            if batch % processes:
                raise ValueError(f"a batch of {batch} examples does not divide among {processes} processes")

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
        return -(-self.in_batch(batch) // self.at_a_time)

    def in_batch(self, batch: int) -> int:
        """How many of its positions are this process's."""
        return len(self.mine(batch))

    def mine(self, batch: int) -> range:
        """Which they are."""
        start = batch * self.size
        whole = min(self.size, self.count - start)
        index, processes = self.share
        return range(start + whole * index // processes, start + whole * (index + 1) // processes)

    def positions(self, number: int) -> range:
        """The positions in a group."""
        batch, place = divmod(number, self.of_batch(0))
        return self.mine(batch)[place * self.at_a_time : (place + 1) * self.at_a_time]


class Ahead:
    """Batches in order, of which `workers` threads make the next ones while the caller uses one.

    What `fill` raises is raised by the `next` that would have given its batch.

    Args:
      fill: writes the images at some positions and gives their labels.
      shape: of every image.
      groups: how positions make batches.
      first: the batch to begin with.
      workers: 0 for none: `next` does the work.
    """

    def __init__(self, fill: Fill, shape: tuple[int, int, int], groups: Groups, first: int, workers: int):
        import grain

        self._fill, self._shape, self._groups, self._batch = fill, shape, groups, first
        self._begun: dict[int, ArraySource] = {}
        self._filled: collections.Counter[int] = collections.Counter()
        self._lock = threading.Lock()
        ahead = _BATCHES_AHEAD * groups.of_batch(0) + workers if workers else 0
        options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=ahead)
        numbers: Any = grain.MapDataset.range(first * groups.of_batch(0), groups.total).map(self._work)
        self._done = iter(numbers.to_iter_dataset(options))

    def _work(self, number: int) -> int:
        """Puts the examples of a group into the arrays of their batch."""
        groups = self._groups
        batch, positions = number // groups.of_batch(0), groups.positions(number)
        with self._lock:
            if batch not in self._begun:
                count = groups.in_batch(batch)
                self._begun[batch] = ArraySource(_aligned((count, *self._shape)), np.empty(count, np.int32))
        images, labels = self._begun[batch].images, self._begun[batch].labels
        start = positions.start - groups.mine(batch).start
        part = slice(start, start + len(positions))
        labels[part] = self._fill(positions, images[part])
        with self._lock:
            self._filled[batch] += 1
        return number

    @property
    def is_ready(self) -> bool:
        """Whether the next batch is made, so that `next` gives it at once."""
        return self._batch < self._groups.batches and self._filled[self._batch] == self._groups.of_batch(self._batch)

    def __next__(self) -> ArraySource:
        for _ in range(self._groups.of_batch(self._batch)):
            next(self._done)
        made = self._begun.pop(self._batch)
        del self._filled[self._batch]
        self._batch += 1
        return made

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drops what is not begun; threads end when they have done what they are at."""
        self._done.close()


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """uint8, at an address at which XLA takes it on a CPU without a copy."""
    size = math.prod(shape)
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].reshape(shape)
