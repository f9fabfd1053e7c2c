"""Three numbers for an image of three channels: means, and standard deviations, of a channel over all its pixels."""

import dataclasses
from typing import Any, Literal, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.data.preprocessing.base import Batches, Recipe
from jaxtrain.errors import DataError

Kind = Literal["scale", "mean", "mean_std"]


@dataclasses.dataclass(frozen=True)
class Normalization:
    """Per-channel `mean` and `std` of pixels in [0, 1]; an image becomes `(pixel / 255 - mean) / std`."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def fit(cls, batches: Batches, kind: Kind) -> Self:
        """Fitted to uint8[..., C]; sums are integers, so the result does not depend on any order."""
        counts: np.ndarray | None = None
        for images in batches:
            channels = images.shape[-1]
            found = [np.bincount(images[..., c].reshape(-1), minlength=256) for c in range(channels)]
            counts = np.stack(found) if counts is None else counts + np.stack(found)
        if counts is None or not counts.any():
            raise DataError("there are no training images to fit the normalization on")
        if kind == "scale":
            return cls((0.0,) * len(counts), (1.0,) * len(counts))
        moments = [_moments([int(n) for n in of_channel]) for of_channel in counts]
        stds = (std if kind == "mean_std" and std > 0 else 1.0 for _, std in moments)
        return cls(tuple(mean for mean, _ in moments), tuple(stds))

    def apply(self, images: jax.Array) -> jax.Array:
        """`(pixel / 255 - mean) / std` of uint8[..., C] as f32, in one multiplication and one addition."""
        mean, std = np.asarray(self.mean), np.asarray(self.std)
        scale, shift = (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)
        axes = (1,) * (images.ndim - 1)
        return images.astype(jnp.float32) * scale.reshape(*axes, -1) + shift.reshape(*axes, -1)

    def inverse(self, values: jax.Array) -> jax.Array:
        """Pixels in [0, 1] of f32[..., C]."""
        axes = (1,) * (values.ndim - 1)
        mean, std = (np.asarray(v, np.float32).reshape(*axes, -1) for v in (self.mean, self.std))
        return jnp.clip(values * std + mean, 0.0, 1.0)


def _moments(counts: list[int]) -> tuple[float, float]:
    """Mean and deviation in [0, 1] of pixels of which `counts[v]` have the value v; exact until the last division."""
    n = sum(counts)
    first = sum(v * count for v, count in enumerate(counts))
    second = sum(v * v * count for v, count in enumerate(counts))
    variance = (second * n - first * first) / (n * n)
    return first / n / 255, variance**0.5 / 255


@dataclasses.dataclass(frozen=True)
class Channels(Recipe):
    """The recipe of the kinds that treat a channel as one variable."""

    kind: Kind
    padded = False  # a margin of zeros is no part of the data that a channel's mean describes

    @property
    def looks(self) -> bool:  # type: ignore[override]
        """See `Recipe`."""
        return self.kind != "scale"

    def fit(self, batches: Batches) -> Normalization:
        """See `Recipe`."""
        return Normalization.fit(batches, self.kind)

    def fits(self, fitted: Any, batches: Batches) -> bool:
        """See `Recipe`."""
        return bool(fitted == self.fit(batches))


def scale() -> Recipe:
    """`pixel / 255`."""
    return Channels("scale")


def mean() -> Recipe:
    """`pixel / 255` less the mean of its channel over all training images."""
    return Channels("mean")


def mean_std() -> Recipe:
    """The same, divided by the channel's standard deviation (population's, by N); a constant channel is not divided."""
    return Channels("mean_std")
