"""The shards of a split as one source: memory-mapped if possible, and read many examples at a time."""

import dataclasses
import functools
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxtrain.data.source import ArraySource
from jaxtrain.data.sources.images import allocate
from jaxtrain.data.sources.npy_files import Header, convert_labels, memory_map, read_npz
from jaxtrain.data.stored import StoredSource
from jaxtrain.errors import DataError

IMAGES, LABELS = "images", "labels"
_MAPPED_FILES = 256
"""The number of shards that are open at once; each uses a file descriptor, and a process typically has 1,024."""
_COMPRESSED_BYTES = 2**32
"""The most bytes of compressed shards that stay in memory for random access."""


class Shard(NamedTuple):
    """A shard whose headers have been read.

    Attributes:
      path: the path of the shard for messages.
      files: the file of each array, by name.
      headers: the header of each array, by name.
    """

    path: Path
    files: Mapping[str, Path]
    headers: Mapping[str, Header]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The height, width and channels of every image."""
        shape = self.headers[IMAGES].shape
        return shape[1], shape[2], shape[3] if len(shape) == 4 else 1

    @property
    def compressed(self) -> bool:
        """Whether the shard is compressed, so that it cannot be read in parts."""
        return any(header.offset is None for header in self.headers.values())

    def open(self, *, checked: bool = False) -> ArraySource:
        """Return the shard's arrays, memory-mapped if possible.

        Args:
          checked: whether to read the arrays of a .npz file and verify its checksum instead of mapping them.
        """
        if self.compressed or (checked and self.path.suffix == ".npz"):
            arrays = {name: read_npz(path, name) for name, path in self.files.items()}
        else:
            arrays = {}
            for path in dict.fromkeys(self.files.values()):
                arrays |= memory_map(path, {n: h for n, h in self.headers.items() if self.files[n] == path})
        count = len(arrays[LABELS])
        return ArraySource(arrays[IMAGES].reshape(count, *self.image_shape), convert_labels(arrays[LABELS]))


@dataclasses.dataclass(frozen=True, eq=False)
class ShardSplit:
    """The shards of a split, in the order of their numbers."""

    shards: tuple[Shard, ...]

    def __len__(self) -> int:
        return int(self._starts[-1])

    @functools.cached_property
    def _starts(self) -> np.ndarray:
        """The index of each shard's first example, and the total number of examples, int64[shards + 1]."""
        return np.cumsum([0, *(shard.headers[LABELS].shape[0] for shard in self.shards)])

    def read_all(self) -> ArraySource:
        """Read all examples into memory; raise `DataError` if a file is damaged."""
        images = allocate(len(self), self.shards[0].image_shape)
        labels = np.empty(len(self), np.int32)
        for shard, start, stop in zip(self.shards, self._starts, self._starts[1:], strict=False):
            source = shard.open(checked=True)
            images[start:stop], labels[start:stop] = source.images, source.labels
        return ArraySource(images, labels)

    def open_stored(self) -> StoredSource:
        """Return a source that reads examples on demand.

        Raises:
          DataError: the compressed shards, which must stay in memory, are too large together.
        """
        compressed = sum(shard.headers[IMAGES].nbytes for shard in self.shards if shard.compressed)
        if compressed > _COMPRESSED_BYTES:
            path = next(shard.path for shard in self.shards if shard.compressed)
            raise DataError(
                f"{path} is compressed, and so are others, with {compressed / 2**30:.1f} GiB of images together. They "
                f"cannot be read in parts, and at most {_COMPRESSED_BYTES / 2**30:.0f} GiB are kept in memory. Save "
                "them with numpy.savez (scripts/make_shards.py does), or remove data.stream"
            )
        keep = functools.lru_cache(maxsize=None)(lambda number: self.shards[number].open())
        recent = functools.lru_cache(maxsize=_MAPPED_FILES)(lambda number: self.shards[number].open())
        locks = [threading.Lock() for _ in self.shards]

        def open_shard(number: int) -> ArraySource:
            if not self.shards[number].compressed:
                return recent(number)
            with locks[number]:  # otherwise each thread would read it into memory
                return keep(number)

        def group_by_shard(indices: np.ndarray) -> tuple[np.ndarray, list[tuple[ArraySource, slice, np.ndarray]]]:
            """Group `indices` by shard.

            Returns:
              The permutation that sorts `indices`; and for each shard that they touch its arrays, its slice of the
              sorted indices, and the indices within the shard.
            """
            sequence = np.argsort(indices)
            ascending = indices[sequence]
            ends = np.searchsorted(ascending, self._starts)
            touched = [
                (number, slice(ends[number], ends[number + 1])) for number in np.flatnonzero(np.diff(ends)).tolist()
            ]
            return sequence, [(open_shard(n), part, ascending[part] - self._starts[n]) for n, part in touched]

        def read(indices: np.ndarray, out: np.ndarray) -> np.ndarray:
            sequence, parts = group_by_shard(indices)
            images, labels = np.empty_like(out), np.empty(len(indices), np.int32)
            for source, part, own in parts:
                # Other modes than "clip" copy through a buffer.
                np.take(source.images, own, axis=0, out=images[part], mode="clip")
                labels[sequence[part]] = source.labels[own]
            out[sequence] = images
            return labels

        def read_labels(indices: np.ndarray) -> np.ndarray:
            sequence, parts = group_by_shard(indices)
            labels = np.empty(len(indices), np.int32)
            for source, part, own in parts:
                labels[sequence[part]] = source.labels[own]
            return labels

        return StoredSource(len(self), self.shards[0].image_shape, read, read_labels)
