"""Preprocessing per channel: scaling, and normalization by each channel's mean and standard deviation."""

import dataclasses
from typing import Any, Literal, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.data.preprocessing.base import Batches, PreprocessingFitter
from jaxtrain.errors import DataError

Kind = Literal["scale", "mean", "mean_std"]


@dataclasses.dataclass(frozen=True)
class Normalization:
    """A normalization by channel: `(pixel / 255 - mean) / std`, with `mean` and `std` of pixels in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def fit(cls, batches: Batches, kind: Kind) -> Self:
        """Fit to arrays uint8[..., C]; sums are integers, so the result does not depend on their order."""
        counts: np.ndarray | None = None
        for images in batches:
            channels = images.shape[-1]
            histograms = np.stack([np.bincount(images[..., c].reshape(-1), minlength=256) for c in range(channels)])
            counts = histograms if counts is None else counts + histograms
        if counts is None or not counts.any():
            raise DataError("there are no training images to fit the normalization on")
        if kind == "scale":
            return cls((0.0,) * len(counts), (1.0,) * len(counts))
        moments = [_moments([int(n) for n in histogram]) for histogram in counts]
        stds = (std if kind == "mean_std" and std > 0 else 1.0 for _, std in moments)
        return cls(tuple(mean for mean, _ in moments), tuple(stds))

    def apply(self, images: jax.Array) -> jax.Array:
        """Return `(pixel / 255 - mean) / std` of uint8[..., C] as f32, in one multiplication and one addition."""
        mean, std = np.asarray(self.mean), np.asarray(self.std)
        scale, shift = (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)
        axes = (1,) * (images.ndim - 1)
        return images.astype(jnp.float32) * scale.reshape(*axes, -1) + shift.reshape(*axes, -1)

    def inverse(self, values: jax.Array) -> jax.Array:
        """Return the pixels in [0, 1] of f32[..., C]."""
        axes = (1,) * (values.ndim - 1)
        mean, std = (np.asarray(v, np.float32).reshape(*axes, -1) for v in (self.mean, self.std))
        return jnp.clip(values * std + mean, 0.0, 1.0)


def _moments(counts: list[int]) -> tuple[float, float]:
    """Return the mean and standard deviation, scaled to [0, 1], of pixels with the histogram `counts`.

    `counts[v]` is the number of pixels with the value v. Only the last divisions round.
    """
    n = sum(counts)
    first = sum(v * count for v, count in enumerate(counts))
    second = sum(v * v * count for v, count in enumerate(counts))
    variance = (second * n - first * first) / (n * n)
    return first / n / 255, variance**0.5 / 255


@dataclasses.dataclass(frozen=True)
class Channels(PreprocessingFitter):
    """The recipe of the kinds that treat each channel as one variable."""

    kind: Kind
    padded = False  # a channel's mean must not include the zero padding

    @property
    def looks(self) -> bool:  # type: ignore[override]
        """Whether fitting depends on the pixel values."""
        return self.kind != "scale"

    def fit(self, batches: Batches) -> Normalization:
        """See `PreprocessingFitter`."""
        return Normalization.fit(batches, self.kind)

    def fits(self, fitted: Any, batches: Batches) -> bool:
        """See `PreprocessingFitter`."""
        return bool(fitted == self.fit(batches))


def scale() -> PreprocessingFitter:
    """Scale pixels to [0, 1]: `pixel / 255`.

    Example:
      >>> import numpy as np
      >>> from jaxtrain.data import preprocessing
      >>> images = np.array([[[[0, 51]]], [[[102, 255]]]], np.uint8)  # two images of 1x1 pixel, 2 channels
      >>> print(preprocessing.scale().fit([images]).apply(images).reshape(2, 2).round(2))
      [[0.  0.2]
       [0.4 1. ]]
    """
    return Channels("scale")


def mean() -> PreprocessingFitter:
    """Subtract the mean of each channel over all training images: `pixel / 255 - mean`.

    Example:
      >>> import numpy as np
      >>> from jaxtrain.data import preprocessing
      >>> images = np.array([[[[0, 51]]], [[[102, 255]]]], np.uint8)  # two images of 1x1 pixel, 2 channels
      >>> print(preprocessing.mean().fit([images]).apply(images).reshape(2, 2).round(2))
      [[-0.2 -0.4]
       [ 0.2  0.4]]
    """
    return Channels("mean")


def mean_std() -> PreprocessingFitter:
    """Normalize each channel: `(pixel / 255 - mean) / std`, with the population standard deviation (by N).

    A constant channel is not divided.

    Example:
      >>> import numpy as np
      >>> from jaxtrain.data import preprocessing
      >>> images = np.array([[[[0, 51]]], [[[102, 255]]]], np.uint8)  # two images of 1x1 pixel, 2 channels
      >>> print(preprocessing.mean_std().fit([images]).apply(images).reshape(2, 2).round(2))
      [[-1. -1.]
       [ 1.  1.]]
    """
    return Channels("mean_std")
