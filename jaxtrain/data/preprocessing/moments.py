"""Exact sums over images for means, variances and covariances of features, independent of order and batching.

A feature is one pixel of one channel. Pixels are integers, and every sum here is exact in its type. The same images
therefore give bitwise equal results on any machine.
"""

import dataclasses

import numpy as np

from jaxtrain.data.preprocessing.base import Batches
from jaxtrain.errors import DataError

CHUNK = 1024
"""The number of images in a chunk: sums of 1024 products (p - 128)(q - 128) stay below 2^24, where float32 is exact."""

_MIDDLE = 128


@dataclasses.dataclass(frozen=True, eq=False)
class PixelSums:
    """Sums over `count` images: of pixels (`first`) and of their squares (`second`), both int64[H, W, C]."""

    count: int
    first: np.ndarray
    second: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """The mean f64[H, W, C] of pixels in [0, 1]."""
        return self.first / self.count / 255

    @property
    def variance(self) -> np.ndarray:
        """The variance f64[H, W, C] (by N) of pixels in [0, 1]; exactly 0 for a constant pixel."""
        first, second = self.first.astype(object), self.second.astype(object)  # Python integers do not overflow
        variance = (second * self.count - first * first) / self.count**2
        return variance.astype(np.float64) / 255**2


@dataclasses.dataclass(frozen=True, eq=False)
class CrossSums:
    """Sums over `count` images of `shape`: f64[D] of features minus 128, and f64[D, D] of their products."""

    count: int
    shape: tuple[int, int, int]
    first: np.ndarray
    cross: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """The mean f64[H, W, C] of pixels in [0, 1], bitwise equal to that of `PixelSums`."""
        total = self.first.reshape(self.shape).astype(np.int64) + _MIDDLE * self.count
        return total / self.count / 255

    @property
    def covariance(self) -> np.ndarray:
        """The covariance f64[D, D] (by N) of pixels in [0, 1]; rows and columns of constant features are exactly 0."""
        covariance = self.cross / self.count
        means = self.first / self.count
        for row, mean in zip(covariance, means, strict=True):  # one row at a time, to save memory
            row -= mean * means
        constant = np.diagonal(covariance) == 0
        covariance[constant] = covariance[:, constant] = 0
        covariance /= 255**2
        return covariance


def pixel_sums(batches: Batches) -> PixelSums:
    """Return the sums for the mean and variance of each feature; raise `DataError` if there are no images."""
    count, first, second = 0, np.zeros((), np.int64), np.zeros((), np.int64)
    for chunk in _chunks(batches):
        count += len(chunk)
        first = first + chunk.sum(axis=0, dtype=np.int64)
        second = second + np.square(chunk, dtype=np.uint32).sum(axis=0, dtype=np.int64)
    if not count:
        raise DataError("there are no training images to fit the preprocessing on")
    return PixelSums(count, first, second)


def cross_sums(batches: Batches) -> CrossSums:
    """Return the sums for the mean and covariance of the features; raise `DataError` if there are no images."""
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
