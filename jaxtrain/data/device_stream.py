"""Transfer of streamed examples to the devices: the batches of training steps and the chunks of an evaluation."""

import collections
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from jax.sharding import Sharding

from jaxtrain.augment.decode.chain import DecodeChain
from jaxtrain.data.example_order import ExampleOrder
from jaxtrain.data.memory import Arrays, TrainingBatches, put_split
from jaxtrain.data.prefetch import BatchGroups, Prefetcher
from jaxtrain.data.source import ArraySource
from jaxtrain.sharding import constrain, process_share, put_process_parts

if TYPE_CHECKING:
    from jaxtrain.data.streaming import StreamedSplit
    from jaxtrain.distributed.mesh import Layout

BATCHES_ON_DEVICE_AHEAD = 2
"""The number of batches that are copied to the devices before a step asks for them."""
_NO_DRAWS = np.random.RandomState(0)


class DeviceStream:
    """A streamed split for evaluation; it copies one chunk at a time to the devices.

    Args:
      split: the split, after padding.
      layout: the devices and shardings.
    """

    def __init__(self, split: "StreamedSplit", layout: "Layout"):
        self.split, self._layout = split, layout

    def __len__(self) -> int:
        return len(self.split)

    def chunks(self, size: int) -> Iterator[Arrays]:
        """Yield the split in order, `size` examples at a time, replicated on every device.

        Each process reads only its share of a chunk; an all-gather then gives every device the whole chunk.
        """
        layout = self._layout
        whole = -(-size // layout.shares) * layout.shares
        index, processes = process_share(layout.batch, whole)
        if processes == 1:
            yield from (put_split(chunk, layout.replicated) for chunk in self.split.chunks(size))
            return
        for number, part in enumerate(self.split.chunks(whole, (index, processes), layout.shares)):
            arrays = Arrays(*put_process_parts((part.images, part.labels), layout.batch, processes))
            yield self._all_gather(arrays, min(whole, len(self) - number * whole))

    def select(self, indices: np.ndarray) -> tuple[Arrays, np.ndarray]:
        """Read the examples at `indices`; return them and the indices 0 to n - 1 of these arrays."""
        chosen = next(self.split.take(indices).chunks(len(indices)))
        return put_split(chosen, self._layout.replicated), np.arange(len(indices))

    def training_batches(self, stream: "Callable[[StreamedSplit], TrainingBatches]") -> TrainingBatches:
        """Return `stream(split)`."""
        return stream(self.split)

    @functools.cached_property
    def _all_gather(self) -> Any:
        layout = self._layout

        def gather(chunk: Arrays, count: int) -> Arrays:
            return Arrays(*(x[:count] for x in constrain(chunk, layout.replicated)))

        return layout.jit(gather, static_argnums=1, out_shardings=layout.replicated)


class TrainingStream(TrainingBatches):
    """The batches of training steps, sharded over the devices; threads prepare the next ones in the meantime.

    A batch that is ready is sent to the devices one or two steps early, so that its copy overlaps with computation.

    Args:
      split: the training split.
      chain: the transforms of its images at decoding; None for arrays.
      draws: a function from a step and an index in its batch to the random generator of that example.
      order: the order of the examples over the run.
      batch_size: the number of examples in a step, over all processes; each process reads its own part of a batch.
      total_steps: the length of the run; nothing is read beyond it.
      sharding: the sharding of a batch.
      part: `(index, count)`, the part of every batch that this process reads; None for what its devices hold.
    """

    def __init__(
        self,
        split: "StreamedSplit",
        chain: DecodeChain | None,
        draws: Callable[[int, int], np.random.RandomState],
        order: ExampleOrder,
        batch_size: int,
        total_steps: int,
        sharding: Sharding,
        part: tuple[int, int] | None = None,
    ):
        self._split, self._chain, self._draws, self._order = split, chain, draws, order
        part = process_share(sharding, batch_size) if part is None else part
        self._groups = BatchGroups(batch_size * total_steps, batch_size, split.at_a_time, part)
        self._sharding = sharding
        self._next_step = -1
        self._prefetcher: Prefetcher | None = None
        self._on_devices: collections.deque[Arrays] = collections.deque()

    def __call__(self, step: int) -> Arrays:
        """Return the batch of `step`; fast if steps are requested in sequence."""
        ahead = self._prefetch_from(step)
        batch = self._on_devices.popleft() if self._on_devices else self._put(next(ahead))
        while len(self._on_devices) < BATCHES_ON_DEVICE_AHEAD and ahead.is_ready:
            self._on_devices.append(self._put(next(ahead)))
        return batch

    def on_host(self, step: int) -> ArraySource:
        """Return this process's share of the batch of `step` as host arrays."""
        self.close()
        with self._prefetch(step) as ahead:
            return next(ahead)

    def close(self) -> None:
        """Stop the work on later batches."""
        self._on_devices.clear()
        if self._prefetcher is not None:
            self._prefetcher.close()
            self._prefetcher = None

    def _prefetch_from(self, step: int) -> Prefetcher:
        """Return the prefetcher of the batches from `step` on; batches on the devices are not among them."""
        if self._prefetcher is None or step != self._next_step:
            self.close()
            self._prefetcher = self._prefetch(step)
        self._next_step = step + 1
        return self._prefetcher

    def _prefetch(self, step: int) -> Prefetcher:
        return Prefetcher(self._fill, self._split.image_shape, self._groups, step, self._split.workers)

    def _put(self, batch: ArraySource) -> Arrays:
        return Arrays(*put_process_parts((batch.images, batch.labels), self._sharding, self._groups.share[1]))

    def _fill(self, positions: range, images: np.ndarray) -> np.ndarray:
        step, first = divmod(positions.start, self._groups.size)
        indices = self._order.at(positions)
        # Creating a generator costs as much as decoding a small image.
        if self._chain is None or not self._chain.random():
            return self._split.fill(indices, images, self._chain, lambda _: _NO_DRAWS)
        return self._split.fill(indices, images, self._chain, lambda offset: self._draws(step, first + offset))
