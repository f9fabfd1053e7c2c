"""Which example stands at each position of a run: one endless sequence, every example once an epoch.

Both orders are functions of the seed and the position, the same in memory and streamed. A permutation is drawn for each
epoch and kept, 4 bytes an example; an index shuffle is computed at the positions that are asked for, and keeps nothing.
"""

import functools
import threading
from collections.abc import Callable
from typing import Literal, Protocol

import numpy as np

from jaxtrain.random import SHUFFLE, host_stream

_ROUNDS = 8
_MULTIPLIERS = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))
_SHIFT = np.uint64(33)


class Permutes(Protocol):
    """What draws the order of an epoch: `numpy.random.RandomState` does, and `IndexShuffle`."""

    def permutation(self, count: int, /) -> np.ndarray:
        """The numbers below `count` in some order, whole numbers of [count]."""
        ...


class ExampleOrder(Protocol):
    """The sequence of the examples of a run."""

    def at(self, positions: range) -> np.ndarray:
        """Which examples stand at some positions, int64 of [len(positions)]."""
        ...


class PermutationOrder:
    """A permutation an epoch: the order of `epoch_shuffle.EpochShuffle`."""

    def __init__(self, draw: Callable[[int], Permutes], examples: int):
        self._examples = examples

        @functools.lru_cache(maxsize=2)  # of a batch that spans two epochs
        def permutation(epoch: int) -> np.ndarray:
            return draw(epoch).permutation(examples).astype(np.int32 if examples < 2**31 else np.int64)

        self._permutation = permutation
        self._lock = threading.Lock()  # else each thread that comes to a new epoch would draw it

    def at(self, positions: range) -> np.ndarray:
        """int64[len(positions)]."""
        with self._lock:
            drawn = [(self._permutation(epoch), places) for epoch, places in _by_epoch(positions, self._examples)]
        return np.concatenate([permutation[places] for permutation, places in drawn]).astype(np.int64)


class IndexShuffle:
    """A permutation of the numbers below any `count` that is computed where it is looked at, in constant memory.

    A balanced Feistel network (Luby & Rackoff 1988, "How to construct pseudorandom permutations from pseudorandom
    functions") permutes the numbers of an even count of bits; what falls at `count` or above goes through it again
    until it does not (cycle walking: Black & Rogaway 2002, "Ciphers with arbitrary finite domains", section 3). The
    domain has at most 4 `count` numbers, so that a number goes through it four times on average at the most.

    Args:
      draw: gives the keys of the rounds, and is used for nothing else.
    """

    def __init__(self, draw: np.random.RandomState):
        self._keys = draw.randint(0, 2**63, _ROUNDS, np.uint64)

    def at(self, places: np.ndarray, count: int) -> np.ndarray:
        """Where the numbers `places` int64[...] below `count` go, int64[...]."""
        half = max(-(-(count - 1).bit_length() // 2), 1)
        found = self._once(places.astype(np.uint64), half)
        outside = found >= count
        while outside.any():
            found[outside] = self._once(found[outside], half)
            outside = found >= count
        return found.astype(np.int64)

    def permutation(self, count: int, /) -> np.ndarray:
        """The whole of it, int64[count]."""
        return self.at(np.arange(count), count)

    def _once(self, numbers: np.ndarray, half: int) -> np.ndarray:
        bits, mask = np.uint64(half), np.uint64((1 << half) - 1)
        left, right = numbers >> bits, numbers & mask
        for key in self._keys:
            left, right = right, left ^ (_mixed(right ^ key) & mask)
        return left << bits | right


def _mixed(x: np.ndarray) -> np.ndarray:
    """uint64[...], every bit of which depends on all bits of `x`: the finalizer of Appleby's MurmurHash3."""
    x = x ^ (x >> _SHIFT)
    for multiplier in _MULTIPLIERS:
        x = x * multiplier
        x = x ^ (x >> _SHIFT)
    return x


class IndexOrder:
    """An index shuffle an epoch, in constant memory.

    Args:
      draw: the shuffle of an epoch.
      examples: in an epoch.
    """

    def __init__(self, draw: Callable[[int], IndexShuffle], examples: int):
        self._examples = examples
        self._draw = functools.lru_cache(maxsize=2)(draw)

    def at(self, positions: range) -> np.ndarray:
        """int64[len(positions)]."""
        parts = _by_epoch(positions, self._examples)
        numbers = [np.arange(places.start, places.stop) for _, places in parts]
        shuffles = [self._draw(epoch) for epoch, _ in parts]
        return np.concatenate([s.at(places, self._examples) for s, places in zip(shuffles, numbers, strict=True)])


def _by_epoch(positions: range, examples: int) -> list[tuple[int, slice]]:
    """The epochs in which positions lie, and their places in each."""
    found = []
    start = positions.start
    while start < positions.stop:
        epoch, place = divmod(start, examples)
        stop = min(positions.stop, (epoch + 1) * examples)
        found.append((epoch, slice(place, place + stop - start)))
        start = stop
    return found


Shuffle = Literal["permutation", "index"]


def epoch_permutation(shuffle: Shuffle, seed: int) -> Callable[[int], Permutes]:
    """Return a function from an epoch to what permutes its examples, as `data.shuffle` says."""
    if shuffle == "index":
        return functools.partial(_index_shuffle, seed)
    return functools.partial(host_stream, seed, SHUFFLE)


def example_order(shuffle: Shuffle, seed: int, examples: int) -> ExampleOrder:
    """Return the sequence of the examples of a run, which `epoch_shuffle.EpochShuffle` follows too."""
    if shuffle == "index":
        return IndexOrder(functools.partial(_index_shuffle, seed), examples)
    return PermutationOrder(epoch_permutation(shuffle, seed), examples)


def _index_shuffle(seed: int, epoch: int) -> IndexShuffle:
    return IndexShuffle(host_stream(seed, SHUFFLE, epoch))
