"""A mean, and a standard deviation, for each pixel of each channel: the mean image, and standardized features."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.annotations import NonNegativeFloat
from jaxtrain.data.preprocessing.base import Batches, Recipe
from jaxtrain.data.preprocessing.moments import pixel_sums


@dataclasses.dataclass(frozen=True, eq=False)
class PixelNormalization:
    """`mean` and `std` f64[H, W, C] of pixels in [0, 1]; an image becomes `(pixel / 255 - mean) / std`."""

    mean: np.ndarray
    std: np.ndarray

    def apply(self, images: jax.Array) -> jax.Array:
        """See `Preprocessing`; one multiplication and one addition a pixel."""
        axes = (1,) * (images.ndim - 3)
        scale, shift = (1 / (255 * self.std)).astype(np.float32), (-self.mean / self.std).astype(np.float32)
        return images.astype(jnp.float32) * scale.reshape(*axes, *scale.shape) + shift.reshape(*axes, *shift.shape)

    def inverse(self, values: jax.Array) -> jax.Array:
        """See `Preprocessing`."""
        axes = (1,) * (values.ndim - 3)
        mean, std = (v.astype(np.float32).reshape(*axes, *v.shape) for v in (self.mean, self.std))
        return jnp.clip(values * std + mean, 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Pixels(Recipe):
    """The recipe of both kinds; `epsilon` is None where nothing is divided."""

    epsilon: float | None

    def fit(self, batches: Batches) -> PixelNormalization:
        """See `Recipe`."""
        sums = pixel_sums(batches)
        if self.epsilon is None:
            return PixelNormalization(sums.mean, np.ones_like(sums.mean))
        variance = sums.variance
        return PixelNormalization(sums.mean, np.sqrt(np.where(variance > 0, variance + self.epsilon, 1.0)))

    def fits(self, fitted: Any, batches: Batches) -> bool:
        """See `Recipe`."""
        if not isinstance(fitted, PixelNormalization):
            return False
        again = self.fit(batches)
        return np.array_equal(again.mean, fitted.mean) and np.array_equal(again.std, fitted.std)


def mean_image() -> Recipe:
    """`pixel / 255` less the mean of the training images at that pixel and channel.

    Krizhevsky et al. 2012 and He et al. (CIFAR-10) leave pixels in 0..255; here they are in [0, 1] throughout. Behind
    batch normalization that is no difference.
    """
    return Pixels(None)


def standardize(epsilon: NonNegativeFloat = 0.0) -> Recipe:
    """Each feature less its mean, divided by its standard deviation (by N); a constant one is not divided.

    Args:
      epsilon: added to the variances, in squares of pixels in [0, 1]. A pixel that differs in few training images has
        a tiny deviation, and another image's value there becomes huge: at the margins of MNIST beyond 100. 1e-2 or so
        keeps it small.
    """
    return Pixels(epsilon)
