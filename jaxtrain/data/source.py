"""Examples in the host's memory, and the protocol of all splits of a run."""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

import numpy as np

if TYPE_CHECKING:
    from jaxtrain.data.memory import DeviceSplit
    from jaxtrain.distributed.mesh import Layout


class Example(NamedTuple):
    """A labeled image: `image` uint8[H, W, C] and `label` in [0, num_classes)."""

    image: np.ndarray
    label: int


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySource:
    """A split in the host's memory: `images` uint8[N, H, W, C] and `labels` int32[N]."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Example:
        return Example(self.images[index], int(self.labels[index]))

    def take(self, indices: np.ndarray) -> Self:
        """Return the examples at `indices`, in that order."""
        return type(self)(self.images[indices], self.labels[indices])


class Split(Protocol):
    """The examples of one split of a run, in memory or read on demand."""

    @property
    def streamed(self) -> bool:
        """Whether the examples are read on demand."""
        ...

    @property
    def labels(self) -> np.ndarray:
        """The labels int32[N]; they are read without decoding images."""
        ...

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The height, width and channels of every image."""
        ...

    def __len__(self) -> int: ...

    def take(self, indices: np.ndarray) -> Self:
        """Return the examples at `indices`, in that order."""
        ...

    def pad(self, margin: int) -> Self:
        """Return the split with `margin` pixels of 0 on each side of every image."""
        ...

    def chunks(self, size: int) -> Iterator[ArraySource]:
        """Yield the whole split in order, `size` examples at a time; the last chunk may be smaller."""
        ...

    def place(self, layout: "Layout") -> "DeviceSplit":
        """Return the split on the devices; a streamed split copies its examples there on demand."""
        ...
