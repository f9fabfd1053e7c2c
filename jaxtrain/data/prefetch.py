"""Prefetching of batches: the division of positions into batches and groups, and threads that fill batches ahead.

A thread processes one group of positions at a time and writes its examples into the arrays of the batch. A group is a
few images to decode, or a whole batch of stored arrays. Only decoding therefore needs work per image in Python.
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
"""`(positions, images uint8[n, H, W, C] to write) -> labels int32[n]`, callable from any thread."""


@dataclasses.dataclass(frozen=True)
class BatchGroups:
    """The division of `count` positions into batches of `size`, and of each batch into groups.

    Groups are numbered consecutively over all batches.

    Attributes:
      count: the number of positions over all batches.
      size: the number of positions in a batch, over all processes.
      at_a_time: the largest number of positions in a group.
      share: `(index, count)` of this process among the processes that share every batch. Each process has one
        contiguous part of a batch, in the order of the processes.

    Raises:
      ValueError: a batch does not divide evenly among the processes. All processes must have the same number of groups,
        since groups are numbered by it.
    """

    count: int
    size: int
    at_a_time: int = 8
    share: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        processes = self.share[1]
        for batch in {min(self.size, self.count), self.count % self.size}:
            if batch % processes:
                raise ValueError(f"a batch of {batch} examples does not divide evenly among {processes} processes")

    @property
    def batches(self) -> int:
        """The number of batches; the last one may be smaller."""
        return -(-self.count // self.size)

    @property
    def total(self) -> int:
        """The number of groups over all batches."""
        return (self.batches - 1) * self.of_batch(0) + self.of_batch(self.batches - 1)

    def of_batch(self, batch: int) -> int:
        """Return the number of groups in a batch."""
        return -(-self.in_batch(batch) // self.at_a_time)

    def in_batch(self, batch: int) -> int:
        """Return the number of this process's positions in a batch."""
        return len(self.mine(batch))

    def mine(self, batch: int) -> range:
        """Return this process's positions in a batch."""
        start = batch * self.size
        whole = min(self.size, self.count - start)
        process, processes = self.share
        return range(start + whole * process // processes, start + whole * (process + 1) // processes)

    def positions(self, number: int) -> range:
        """Return the positions in the group with this number."""
        batch, index = divmod(number, self.of_batch(0))
        return self.mine(batch)[index * self.at_a_time : (index + 1) * self.at_a_time]


class Prefetcher:
    """An iterator over batches in order; `workers` threads fill the next batches while the caller uses one.

    An exception in `fill` is raised by the call of `next` that would have returned its batch.

    Args:
      fill: a function that writes the images at some positions and returns their labels.
      shape: the shape of every image.
      groups: the division of positions into batches and groups.
      first: the number of the first batch.
      workers: the number of threads; 0 for none, where `next` does the work.
    """

    def __init__(self, fill: Fill, shape: tuple[int, int, int], groups: BatchGroups, first: int, workers: int):
        import grain

        self._fill, self._shape, self._groups, self._batch = fill, shape, groups, first
        self._unfinished: dict[int, ArraySource] = {}
        self._finished_groups: collections.Counter[int] = collections.Counter()
        self._lock = threading.Lock()
        ahead = _BATCHES_AHEAD * groups.of_batch(0) + workers if workers else 0
        options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=ahead)
        numbers: Any = grain.MapDataset.range(first * groups.of_batch(0), groups.total).map(self._fill_group)
        self._done = iter(numbers.to_iter_dataset(options))

    def _fill_group(self, number: int) -> int:
        """Write the examples of a group into the arrays of their batch; return the group's number."""
        groups = self._groups
        batch, positions = number // groups.of_batch(0), groups.positions(number)
        with self._lock:
            if batch not in self._unfinished:
                count = groups.in_batch(batch)
                empty = _allocate_aligned((count, *self._shape))
                self._unfinished[batch] = ArraySource(empty, np.empty(count, np.int32))
        images, labels = self._unfinished[batch].images, self._unfinished[batch].labels
        start = positions.start - groups.mine(batch).start
        part = slice(start, start + len(positions))
        labels[part] = self._fill(positions, images[part])
        with self._lock:
            self._finished_groups[batch] += 1
        return number

    @property
    def is_ready(self) -> bool:
        """Whether the next batch is complete, so that `next` returns at once."""
        if self._batch >= self._groups.batches:
            return False
        return self._finished_groups[self._batch] == self._groups.of_batch(self._batch)

    def __next__(self) -> ArraySource:
        for _ in range(self._groups.of_batch(self._batch)):
            next(self._done)
        batch = self._unfinished.pop(self._batch)
        del self._finished_groups[self._batch]
        self._batch += 1
        return batch

    def __enter__(self) -> "Prefetcher":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop the groups that have not begun; each thread ends after its current group."""
        self._done.close()


def _allocate_aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Return an uninitialized uint8 array at an address that XLA:CPU can use without a copy."""
    size = math.prod(shape)
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].reshape(shape)
