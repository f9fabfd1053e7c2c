"""Sums over images that are exact, whatever the order and the batches: means, variances, covariances of features.

A feature is one pixel of one channel. Pixels are whole numbers, and every sum here is one that its type holds without
rounding, so the same images give the same bits on any machine.
"""

import dataclasses

import numpy as np

from jaxtrain.data.preprocessing.base import Batches
from jaxtrain.errors import DataError

CHUNK = 1024
"""Images at a time: sums of so many products of two pixels less 128 stay below 2^24, where float32 is exact."""

_MIDDLE = 128


@dataclasses.dataclass(frozen=True, eq=False)
class PixelSums:
    """`count` images, and int64[H, W, C] of the sums of their pixels and of the squares of these."""

    count: int
    first: np.ndarray
    second: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Of pixels in [0, 1], f64[H, W, C]."""
        return self.first / self.count / 255

    @property
    def variance(self) -> np.ndarray:
        """Of pixels in [0, 1], by N, f64[H, W, C]; exactly 0 for a constant pixel."""
        first, second = self.first.astype(object), self.second.astype(object)  # Python's integers do not overflow
        over = (second * self.count - first * first) / self.count**2
        return over.astype(np.float64) / 255**2


@dataclasses.dataclass(frozen=True, eq=False)
class CrossSums:
    """`count` images of `shape`; sums f64[D] and f64[D, D] of features less 128 and of products of two of them."""

    count: int
    shape: tuple[int, int, int]
    first: np.ndarray
    cross: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Of pixels in [0, 1], f64[H, W, C]; the same bits as those of `PixelSums`."""
        total = self.first.reshape(self.shape).astype(np.int64) + _MIDDLE * self.count
        return total / self.count / 255

    @property
    def covariance(self) -> np.ndarray:
        """Of pixels in [0, 1], by N, f64[D, D]; the rows of constant features are exactly 0."""
        found = self.cross / self.count
        mean = self.first / self.count
        for row, of_feature in zip(found, mean, strict=True):  # a row at a time, for the sake of memory
            row -= of_feature * mean
        still = np.diagonal(found) == 0
        found[still] = found[:, still] = 0
        found /= 255**2
        return found


def pixel_sums(batches: Batches) -> PixelSums:
    """First and second moments of each feature; `DataError` where there are no images."""
    count, first, second = 0, np.zeros((), np.int64), np.zeros((), np.int64)
    for chunk in _chunks(batches):
        count += len(chunk)
        first = first + chunk.sum(axis=0, dtype=np.int64)
        second = second + np.square(chunk, dtype=np.uint32).sum(axis=0, dtype=np.int64)
    if not count:
        raise DataError("there are no training images to fit the preprocessing on")
    return PixelSums(count, first, second)


def cross_sums(batches: Batches) -> CrossSums:
    """First moments of each feature and of each pair of features; `DataError` where there are no images."""
    sums: CrossSums | None = None
    for chunk in _chunks(batches):
        h, w, c = chunk.shape[1:]
        if sums is None:
            sums = CrossSums(0, (h, w, c), np.zeros(h * w * c), np.zeros((h * w * c, h * w * c)))
        flat = chunk.reshape(len(chunk), -1).astype(np.float32) - _MIDDLE
        sums.cross[...] += flat.T @ flat
        sums.first[...] += flat.sum(axis=0)
        sums = dataclasses.replace(sums, count=sums.count + len(chunk))
    if sums is None:
        raise DataError("there are no training images to fit the preprocessing on")
    return sums


def _chunks(batches: Batches) -> Batches:
    for images in batches:
        for start in range(0, len(images), CHUNK):
            yield images[start : start + CHUNK]
