"""Splits in memory: on the host after loading, and on the devices for training steps and evaluation."""

import abc
import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

import jax
import numpy as np
from jax.sharding import Sharding

from jaxtrain.data.preprocessing.resizing import pad_images
from jaxtrain.data.source import ArraySource
from jaxtrain.sharding import put

if TYPE_CHECKING:
    from jaxtrain.distributed.mesh import Layout


class Arrays(NamedTuple):
    """Examples on the devices: `images` uint8[N, H, W, C], `labels` int32[N]."""

    images: jax.Array
    labels: jax.Array


class TrainingBatches(abc.ABC):
    """A function from a step to arrays on the devices that contain the step's examples."""

    @abc.abstractmethod
    def __call__(self, step: int) -> Arrays:
        """Return arrays that contain the examples of `step`."""

    def mark_dispatched(self, tick: jax.Array) -> None:  # noqa: B027
        """Call right after dispatching the step that consumes the last batch; `tick` is any of its outputs."""

    @property
    def seconds_waited(self) -> float | None:
        """The time in seconds that the devices have waited for batches; None if it is not measured."""
        return None

    def close(self) -> None:  # noqa: B027
        """End the work on later steps."""


class DeviceSplit(Protocol):
    """A padded split for evaluation, on the devices or streamed to them."""

    def __len__(self) -> int: ...

    def chunks(self, size: int) -> Iterator[Arrays]:
        """Yield the split in order: as a whole if it is on the devices, else in chunks of `size` examples."""
        ...

    def select(self, indices: np.ndarray) -> tuple[Arrays, np.ndarray]:
        """Return arrays that contain the examples at `indices`, and the examples' indices in these arrays."""
        ...

    def training_batches(self, stream: Callable[..., TrainingBatches]) -> TrainingBatches:
        """Return the batches of the training steps; for a `StreamedSplit` these are `stream(split)`."""
        ...


class MemorySplit(ArraySource):
    """A split in the host's memory: an `ArraySource` with the methods of the protocol `Split`."""

    streamed: ClassVar[bool] = False

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The height, width and channels of every image."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    def take(self, indices: np.ndarray) -> "MemorySplit":
        """Return the examples at `indices`, in that order."""
        return MemorySplit(self.images[indices], self.labels[indices])

    def pad(self, margin: int) -> "MemorySplit":
        """Return the split with `margin` pixels of 0 on each side of every image."""
        return MemorySplit(pad_images(self.images, margin), self.labels)

    def chunks(self, size: int) -> Iterator[ArraySource]:
        """Yield the whole split in order, `size` examples at a time; the last chunk may be smaller."""
        for start in range(0, len(self), size):
            yield ArraySource(self.images[start : start + size], self.labels[start : start + size])

    def place(self, layout: "Layout") -> "ReplicatedSplit":
        """Copy the whole split to every device."""
        return ReplicatedSplit(put_split(self, layout.replicated))


@dataclasses.dataclass(frozen=True)
class ReplicatedSplit(TrainingBatches):
    """A split that is replicated on every device; the step itself selects its examples."""

    arrays: Arrays

    def __len__(self) -> int:
        return int(self.arrays.labels.shape[0])

    def __call__(self, step: int) -> Arrays:
        """Return the same arrays for every step."""
        return self.arrays

    def chunks(self, size: int) -> Iterator[Arrays]:
        """Yield the whole split at once; a split on the devices needs no chunks."""
        yield self.arrays

    def select(self, indices: np.ndarray) -> tuple[Arrays, np.ndarray]:
        """Return the whole split and `indices`."""
        return self.arrays, indices

    def training_batches(self, stream: Callable[..., TrainingBatches]) -> TrainingBatches:
        """Return the split itself, since nothing is streamed."""
        return self


def put_split(source: ArraySource, everywhere: Sharding) -> Arrays:
    """Copy a whole split to every device of the replicated sharding `everywhere`."""
    return Arrays(*put((source.images, source.labels.astype(np.int32)), everywhere))
