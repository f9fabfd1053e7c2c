"""The order of examples over a run: one endless sequence with every example once per epoch.

Both orders are functions of the seed and the position, and are the same for data in memory and streamed data. The
permutation order stores one permutation per epoch, 4 bytes per example. The index order computes each index on demand
and stores nothing.
"""

import functools
import threading
from collections.abc import Callable
from typing import Literal, Protocol

import numpy as np

from jaxtrain.random import SHUFFLE, host_generator

_ROUNDS = 8
_MULTIPLIERS = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))
_SHIFT = np.uint64(33)


class Permuter(Protocol):
    """A generator of the order of an epoch, such as `numpy.random.RandomState` or `IndexShuffle`."""

    def permutation(self, count: int, /) -> np.ndarray:
        """Return a permutation of 0 to count - 1, integers of shape [count]."""
        ...


class ExampleOrder(Protocol):
    """The order of the examples over a run."""

    def at(self, positions: range) -> np.ndarray:
        """Return the indices of the examples at `positions`, int64[len(positions)]."""
        ...


class PermutationOrder:
    """One stored permutation per epoch; the same order as `epoch_shuffle.EpochShuffle`."""

    def __init__(self, draw: Callable[[int], Permuter], examples: int):
        self._examples = examples

        @functools.lru_cache(maxsize=2)  # two, for a batch that spans two epochs
        def permutation(epoch: int) -> np.ndarray:
            return draw(epoch).permutation(examples).astype(np.int32 if examples < 2**31 else np.int64)

        self._permutation = permutation
        self._lock = threading.Lock()  # otherwise each thread that reaches a new epoch would draw it

    def at(self, positions: range) -> np.ndarray:
        """Return the indices of the examples at `positions`, int64[len(positions)]."""
        with self._lock:
            drawn = [(self._permutation(epoch), part) for epoch, part in _split_by_epoch(positions, self._examples)]
        return np.concatenate([permutation[part] for permutation, part in drawn]).astype(np.int64)


class IndexShuffle:
    """A permutation of 0 to count - 1 for any `count`, computed on demand in constant memory.

    A balanced Feistel network (Luby & Rackoff 1988, "How to construct pseudorandom permutations from pseudorandom
    functions") permutes all numbers with an even number of bits. A result of `count` or above goes through the network
    again until it is below (cycle walking: Black & Rogaway 2002, "Ciphers with arbitrary finite domains", section 3).
    The domain has at most 4 `count` numbers, so a number takes at most four passes on average.

    Args:
      draw: the generator of the round keys; nothing else is drawn from it.
    """

    def __init__(self, draw: np.random.RandomState):
        self._keys = draw.randint(0, 2**63, _ROUNDS, np.uint64)

    def at(self, places: np.ndarray, count: int) -> np.ndarray:
        """Return the images int64[...] of the numbers `places` int64[...] under the permutation of 0 to count - 1."""
        half = max(-(-(count - 1).bit_length() // 2), 1)
        result = self._encrypt(places.astype(np.uint64), half)
        outside = result >= count
        while outside.any():
            result[outside] = self._encrypt(result[outside], half)
            outside = result >= count
        return result.astype(np.int64)

    def permutation(self, count: int, /) -> np.ndarray:
        """Return the whole permutation, int64[count]."""
        return self.at(np.arange(count), count)

    def _encrypt(self, numbers: np.ndarray, half: int) -> np.ndarray:
        bits, mask = np.uint64(half), np.uint64((1 << half) - 1)
        left, right = numbers >> bits, numbers & mask
        for key in self._keys:
            left, right = right, left ^ (_mix_bits(right ^ key) & mask)
        return left << bits | right


def _mix_bits(x: np.ndarray) -> np.ndarray:
    """Return MurmurHash3's finalizer (Appleby) of `x`, uint64[...]: each bit depends on all bits of `x`."""
    x = x ^ (x >> _SHIFT)
    for multiplier in _MULTIPLIERS:
        x = x * multiplier
        x = x ^ (x >> _SHIFT)
    return x


class IndexOrder:
    """One index shuffle per epoch, in constant memory.

    Args:
      draw: a function from an epoch to its shuffle.
      examples: the number of examples in an epoch.
    """

    def __init__(self, draw: Callable[[int], IndexShuffle], examples: int):
        self._examples = examples
        self._draw = functools.lru_cache(maxsize=2)(draw)

    def at(self, positions: range) -> np.ndarray:
        """Return the indices of the examples at `positions`, int64[len(positions)]."""
        parts = _split_by_epoch(positions, self._examples)
        numbers = [np.arange(part.start, part.stop) for _, part in parts]
        shuffles = [self._draw(epoch) for epoch, _ in parts]
        return np.concatenate([s.at(part, self._examples) for s, part in zip(shuffles, numbers, strict=True)])


def _split_by_epoch(positions: range, examples: int) -> list[tuple[int, slice]]:
    """Split positions by epoch: return each epoch and the slice of positions within it."""
    parts = []
    start = positions.start
    while start < positions.stop:
        epoch, offset = divmod(start, examples)
        stop = min(positions.stop, (epoch + 1) * examples)
        parts.append((epoch, slice(offset, offset + stop - start)))
        start = stop
    return parts


Shuffle = Literal["permutation", "index"]


def epoch_permutation(shuffle: Shuffle, seed: int) -> Callable[[int], Permuter]:
    """Return a function from an epoch to the generator of its permutation, for the method `data.shuffle`."""
    if shuffle == "index":
        return functools.partial(_index_shuffle, seed)
    return functools.partial(host_generator, seed, SHUFFLE)


def example_order(shuffle: Shuffle, seed: int, examples: int) -> ExampleOrder:
    """Return the order of the examples over a run; `epoch_shuffle.EpochShuffle` has the same order."""
    if shuffle == "index":
        return IndexOrder(functools.partial(_index_shuffle, seed), examples)
    return PermutationOrder(epoch_permutation(shuffle, seed), examples)


def _index_shuffle(seed: int, epoch: int) -> IndexShuffle:
    return IndexShuffle(host_generator(seed, SHUFFLE, epoch))
