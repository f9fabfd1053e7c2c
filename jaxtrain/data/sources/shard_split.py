"""The shards of a split as one array: mapped where they can be, and read many examples at a time."""

import dataclasses
import functools
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxtrain.data.source import ArraySource
from jaxtrain.data.sources.images import allocate
from jaxtrain.data.sources.npy_files import Header, mapped, read_npz, small_labels
from jaxtrain.data.stored import StoredSource
from jaxtrain.errors import DataError

IMAGES, LABELS = "images", "labels"
_MAPPED_FILES = 256
"""Shards that are open at a time: each takes a descriptor, of which systems give a process 1,024."""
_HELD_BYTES = 2**32
"""Of compressed shards that are kept in memory when they are read at random."""


class Shard(NamedTuple):
    """A shard by its headers: `path` is for messages, `files` says which file holds which array."""

    path: Path
    files: Mapping[str, Path]
    headers: Mapping[str, Header]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        shape = self.headers[IMAGES].shape
        return shape[1], shape[2], shape[3] if len(shape) == 4 else 1

    @property
    def compressed(self) -> bool:
        """Whether it cannot be read in parts."""
        return any(header.offset is None for header in self.headers.values())

    def open(self, *, checked: bool = False) -> ArraySource:
        """Its arrays, mapped where they can be; or read, and `checked` against the checksum that .npz files have."""
        if self.compressed or (checked and self.path.suffix == ".npz"):
            found = {name: read_npz(path, name) for name, path in self.files.items()}
        else:
            found = {}
            for path in dict.fromkeys(self.files.values()):
                found |= mapped(path, {n: h for n, h in self.headers.items() if self.files[n] == path})
        count = len(found[LABELS])
        return ArraySource(found[IMAGES].reshape(count, *self.image_shape), small_labels(found[LABELS]))


@dataclasses.dataclass(frozen=True, eq=False)
class ShardSplit:
    """The shards of a split, in the order of their numbers."""

    shards: tuple[Shard, ...]

    def __len__(self) -> int:
        return int(self._starts[-1])

    @functools.cached_property
    def _starts(self) -> np.ndarray:
        """int64[shards + 1]: the index of each shard's first example, and where the last one ends."""
        return np.cumsum([0, *(shard.headers[LABELS].shape[0] for shard in self.shards)])

    def read_all(self) -> ArraySource:
        """All examples, in memory; `DataError` where a file is damaged."""
        images = allocate(len(self), self.shards[0].image_shape)
        labels = np.empty(len(self), np.int32)
        for shard, start, stop in zip(self.shards, self._starts, self._starts[1:], strict=False):
            found = shard.open(checked=True)
            images[start:stop], labels[start:stop] = found.images, found.labels
        return ArraySource(images, labels)

    def stored(self) -> StoredSource:
        """The examples, read as they are wanted; `DataError` where more is compressed than memory is taken for."""
        held = sum(shard.headers[IMAGES].nbytes for shard in self.shards if shard.compressed)
        if held > _HELD_BYTES:
            path = next(shard.path for shard in self.shards if shard.compressed)
            raise DataError(
                f"{path} is compressed, and so are others, {held / 2**30:.1f} GiB of images together: that cannot be "
                f"read in parts, and more than {_HELD_BYTES / 2**30:.0f} GiB are not kept in memory. Save them with "
                "numpy.savez (scripts/make_shards.py does), or leave out data.stream"
            )
        keep = functools.lru_cache(maxsize=None)(lambda number: self.shards[number].open())
        recent = functools.lru_cache(maxsize=_MAPPED_FILES)(lambda number: self.shards[number].open())
        locks = [threading.Lock() for _ in self.shards]

        def opened(number: int) -> ArraySource:
            if not self.shards[number].compressed:
                return recent(number)
            with locks[number]:  # else each thread that wants it would read it into memory
                return keep(number)

        def by_shard(indices: np.ndarray) -> tuple[np.ndarray, list[tuple[ArraySource, slice, np.ndarray]]]:
            """The order in which `indices` ascend; of each shard its arrays, its stretch of that, and places in it."""
            sequence = np.argsort(indices)
            ascending = indices[sequence]
            ends = np.searchsorted(ascending, self._starts)
            touched = [
                (number, slice(ends[number], ends[number + 1])) for number in np.flatnonzero(np.diff(ends)).tolist()
            ]
            return sequence, [(opened(n), part, ascending[part] - self._starts[n]) for n, part in touched]

        def read(indices: np.ndarray, out: np.ndarray) -> np.ndarray:
            sequence, parts = by_shard(indices)
            images, labels = np.empty_like(out), np.empty(len(indices), np.int32)
            for found, part, own in parts:
                np.take(
                    found.images, own, axis=0, out=images[part], mode="clip"
                )  # any other mode goes through a buffer
                labels[sequence[part]] = found.labels[own]
            out[sequence] = images
            return labels

        def read_labels(indices: np.ndarray) -> np.ndarray:
            sequence, parts = by_shard(indices)
            labels = np.empty(len(indices), np.int32)
            for found, part, own in parts:
                labels[sequence[part]] = found.labels[own]
            return labels

        return StoredSource(len(self), self.shards[0].image_shape, read, read_labels)
