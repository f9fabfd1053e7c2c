"""Streamed examples on their way to the devices: the batches of the steps, and the parts of an evaluation."""

import collections
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from jax.sharding import Sharding

from jaxtrain.augment.decode.chain import Chain
from jaxtrain.data.example_order import ExampleOrder
from jaxtrain.data.memory import Arrays, TrainingBatches, put_split
from jaxtrain.data.prefetch import Ahead, Groups
from jaxtrain.data.source import ArraySource
from jaxtrain.sharding import constrain, process_part, put_process_parts

if TYPE_CHECKING:
    from jaxtrain.data.streaming import StreamedSplit
    from jaxtrain.distributed.mesh import Layout

PLACED_AHEAD = 2
"""Batches on their way to the device before a step asks for them."""
_NO_DRAWS = np.random.RandomState(0)


class DeviceStream:
    """A streamed split as evaluation reads it: in parts, each put on the devices when it is wanted.

    Args:
      split: the split, padded.
      layout: the devices.
    """

    def __init__(self, split: "StreamedSplit", layout: "Layout"):
        self.split, self._layout = split, layout

    def __len__(self) -> int:
        return len(self.split)

    def chunks(self, size: int) -> Iterator[Arrays]:
        """Yield the split in its order, `size` examples at a time, whole on every device.

        Of every part a process reads what its devices are given, and the devices exchange it.
        """
        layout = self._layout
        whole = -(-size // layout.shares) * layout.shares
        index, processes = process_part(layout.batch, whole)
        if processes == 1:
            yield from (put_split(chunk, layout.replicated) for chunk in self.split.chunks(size))
            return
        for number, part in enumerate(self.split.chunks(whole, (index, processes), layout.shares)):
            arrays = Arrays(*put_process_parts((part.images, part.labels), layout.batch, processes))
            yield self._all_gather(arrays, min(whole, len(self) - number * whole))

    def select(self, indices: np.ndarray) -> tuple[Arrays, np.ndarray]:
        """Read the examples at `indices`; return them, and their indices among themselves."""
        chosen = next(self.split.take(indices).chunks(len(indices)))
        return put_split(chosen, self._layout.replicated), np.arange(len(indices))

    def training_batches(self, stream: "Callable[[StreamedSplit], TrainingBatches]") -> TrainingBatches:
        """Return what `stream` makes of the split."""
        return stream(self.split)

    @functools.cached_property
    def _all_gather(self) -> Any:
        layout = self._layout

        def gather(chunk: Arrays, count: int) -> Arrays:
            return Arrays(*(x[:count] for x in constrain(chunk, layout.replicated)))

        return layout.jit(gather, static_argnums=1, out_shardings=layout.replicated)


class TrainingStream(TrainingBatches):
    """Gives the batch of a step, laid out over the devices; those of the next steps are being made meanwhile.

    A batch that is ready is put on the device one or two steps before its own, so that it is copied while another is
    computed with.

    Args:
      split: the training split.
      chain: the transforms of its images at decoding; None for arrays.
      draws: from a step and the index in its batch to the random numbers of that example.
      order: the sequence of the examples of the run.
      batch_size: the number of examples in a step, over all processes; each process reads its own part of a batch.
      total_steps: the length of the run; nothing is read beyond it.
      sharding: the sharding of a batch.
      part: `(index, count)`, the part of every batch that this process reads; None for what its devices hold.
    """

    def __init__(
        self,
        split: "StreamedSplit",
        chain: Chain | None,
        draws: Callable[[int, int], np.random.RandomState],
        order: ExampleOrder,
        batch_size: int,
        total_steps: int,
        sharding: Sharding,
        part: tuple[int, int] | None = None,
    ):
        self._split, self._chain, self._draws, self._order = split, chain, draws, order
        part = process_part(sharding, batch_size) if part is None else part
        self._groups = Groups(batch_size * total_steps, batch_size, split.at_a_time, part)
        self._sharding = sharding
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
        return Arrays(*put_process_parts((batch.images, batch.labels), self._sharding, self._groups.share[1]))

    def _fill(self, positions: range, images: np.ndarray) -> np.ndarray:
        step, first = divmod(positions.start, self._groups.size)
        indices = self._order.at(positions)
        if self._chain is None or not self._chain.random():  # a generator costs as much as decoding a small picture
            return self._split.fill(indices, images, self._chain, lambda _: _NO_DRAWS)
        return self._split.fill(indices, images, self._chain, lambda place: self._draws(step, first + place))
