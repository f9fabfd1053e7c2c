"""Preprocessing per pixel and channel: subtraction of the mean image, and standardization of features."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.annotations import NonNegativeFloat
from jaxtrain.data.preprocessing.base import Batches, PreprocessingFitter
from jaxtrain.data.preprocessing.moments import pixel_sums


@dataclasses.dataclass(frozen=True, eq=False)
class PixelNormalization:
    """A normalization by pixel: `(pixel / 255 - mean) / std`, with `mean` and `std` f64[H, W, C] in [0, 1]."""

    mean: np.ndarray
    std: np.ndarray

    def apply(self, images: jax.Array) -> jax.Array:
        """See `Preprocessing`; a pixel takes one multiplication and one addition."""
        axes = (1,) * (images.ndim - 3)
        scale, shift = (1 / (255 * self.std)).astype(np.float32), (-self.mean / self.std).astype(np.float32)
        return images.astype(jnp.float32) * scale.reshape(*axes, *scale.shape) + shift.reshape(*axes, *shift.shape)

    def inverse(self, values: jax.Array) -> jax.Array:
        """See `Preprocessing`."""
        axes = (1,) * (values.ndim - 3)
        mean, std = (v.astype(np.float32).reshape(*axes, *v.shape) for v in (self.mean, self.std))
        return jnp.clip(values * std + mean, 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Pixels(PreprocessingFitter):
    """The recipe of `mean_image`, with `epsilon` None, and of `standardize`."""

    epsilon: float | None

    def fit(self, batches: Batches) -> PixelNormalization:
        """See `PreprocessingFitter`."""
        sums = pixel_sums(batches)
        if self.epsilon is None:
            return PixelNormalization(sums.mean, np.ones_like(sums.mean))
        variance = sums.variance
        return PixelNormalization(sums.mean, np.sqrt(np.where(variance > 0, variance + self.epsilon, 1.0)))

    def fits(self, fitted: Any, batches: Batches) -> bool:
        """See `PreprocessingFitter`."""
        if not isinstance(fitted, PixelNormalization):
            return False
        refitted = self.fit(batches)
        return np.array_equal(refitted.mean, fitted.mean) and np.array_equal(refitted.std, fitted.std)


def mean_image() -> PreprocessingFitter:
    """Subtract the mean image of the training images: `pixel / 255 - mean`, with a mean per pixel and channel.

    Krizhevsky et al. 2012 and He et al. (CIFAR-10) keep pixels in 0..255, while here they are in [0, 1]. Before batch
    normalization the two are equivalent.

    Example:
      >>> import numpy as np
      >>> from jaxtrain.data import preprocessing
      >>> images = np.array([[[[0, 51]]], [[[102, 255]]]], np.uint8)  # two images of 1x1 pixel, 2 channels
      >>> print(preprocessing.mean_image().fit([images]).apply(images).reshape(2, 2).round(2))
      [[-0.2 -0.4]
       [ 0.2  0.4]]
    """
    return Pixels(None)


def standardize(epsilon: NonNegativeFloat = 0.0) -> PreprocessingFitter:
    """Standardize each feature: `(pixel / 255 - mean) / sqrt(variance + epsilon)`, with the variance by N.

    A constant feature is not divided.

    Args:
      epsilon: the constant added to the variances, in units of squared pixels in [0, 1]. A pixel that varies in few
        training images has a tiny standard deviation. Its values in other images then become huge (above 100 at
        the margins of MNIST); about 1e-2 keeps them small.

    Example:
      >>> import numpy as np
      >>> from jaxtrain.data import preprocessing
      >>> images = np.array([[[[0, 51]]], [[[102, 255]]]], np.uint8)  # two images of 1x1 pixel, 2 channels
      >>> print(preprocessing.standardize(epsilon=0.01).fit([images]).apply(images).reshape(2, 2).round(2))
      [[-0.89 -0.97]
       [ 0.89  0.97]]
    """
    return Pixels(epsilon)
