"""Preprocessing by principal components of the training images: PCA, PCA whitening and ZCA whitening."""

import dataclasses
import math
from typing import Any

import numpy as np

from jaxtrain.annotations import NonNegativeFloat, PositiveInt
from jaxtrain.data.preprocessing.base import Batches, PreprocessingFitter
from jaxtrain.data.preprocessing.linear import LinearMap
from jaxtrain.data.preprocessing.moments import cross_sums, pixel_sums

MOST_FEATURES = 8192
"""The largest number of features; their covariance and its eigenvectors take 0.5 GiB each, and cubic time."""


@dataclasses.dataclass(frozen=True, eq=False)
class Spectrum:
    """The mean and the principal components of images.

    Attributes:
      mean: the mean f64[H, W, C] of pixels in [0, 1].
      variances: the variances f64[D] (by N) along the components, in descending order.
      vectors: the components f64[D, D] as columns, with signs that make the entry of largest magnitude positive.
    """

    mean: np.ndarray
    variances: np.ndarray
    vectors: np.ndarray


def spectrum(batches: Batches) -> Spectrum:
    """Compute the principal components of images uint8[N, H, W, C]."""
    sums = cross_sums(batches)
    variances, vectors = np.linalg.eigh(sums.covariance)
    variances, vectors = variances[::-1], vectors[:, ::-1]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    return Spectrum(sums.mean, np.maximum(variances, 0), vectors * np.where(largest < 0, -1.0, 1.0))


@dataclasses.dataclass(frozen=True)
class Components(PreprocessingFitter):
    """The recipe of `pca`, `whiten` and `zca`.

    Attributes:
      components: the number of components with the largest variances that are kept; None for all.
      epsilon: the constant added to variances before division by their square root; None for no division.
      rotate_back: whether the result is transformed back to pixels.
    """

    components: int | None
    epsilon: float | None
    rotate_back: bool

    def check(self, image_shape: tuple[int, int, int]) -> None:
        """See `PreprocessingFitter`."""
        h, w, c = image_shape
        features = math.prod(image_shape)
        if features > MOST_FEATURES:
            raise ValueError(
                f"an image of {h}x{w}x{c} has {features:,} features, whose covariance would take "
                f"{8 * features**2 / 2**30:,.0f} GiB; at most {MOST_FEATURES:,} are supported. Use mean_std, "
                "mean_image or standardize, which treat each feature separately, or reduce the size with data.resize"
            )
        if self.components is not None and self.components > features:
            raise ValueError(
                f"components={self.components:,} is more than the {features:,} features of an image of {h}x{w}x{c}; "
                "choose a smaller number"
            )

    def fit(self, batches: Batches) -> LinearMap:
        """See `PreprocessingFitter`."""
        principal = spectrum(batches)
        gains = _gains(principal.variances, self.epsilon)[: self.components]
        vectors = principal.vectors[:, : self.components]
        matrix = vectors * gains
        back = vectors * np.divide(1.0, gains, out=np.zeros_like(gains), where=gains > 0)
        if self.rotate_back:
            matrix, back = matrix @ vectors.T, back @ vectors.T
        else:
            back = back.T
        return LinearMap(principal.mean, matrix.astype(np.float32), np.ascontiguousarray(back, np.float32))

    def fits(self, fitted: Any, batches: Batches) -> bool:
        """See `PreprocessingFitter`. Eigenvectors are not compared: other libraries round their last bits otherwise."""
        return isinstance(fitted, LinearMap) and np.array_equal(fitted.mean, pixel_sums(batches).mean)


def _gains(variances: np.ndarray, epsilon: float | None) -> np.ndarray:
    """Return the factor of each component; 0 for components whose variance is only rounding error."""
    if epsilon is None:
        return np.ones_like(variances)
    least = variances.max() * len(variances) * np.finfo(np.float64).eps
    shifted = variances + epsilon
    return np.divide(1.0, np.sqrt(shifted), out=np.zeros_like(shifted), where=shifted > least)


def pca(components: PositiveInt | None = None, rotate_back: bool = False) -> PreprocessingFitter:
    """Center images and rotate them to principal components: a diagonal covariance, the largest variance first.

    The result has the shape of the image, with component i at index i of the flattened image, so that any model accepts
    it. Neighboring values are not neighboring pixels, so it suits dense networks, not convolutions.

    Args:
      components: the number of components that are kept, at most H * W * C; the others are 0. None for all.
      rotate_back: whether the result is transformed back to pixels without the dropped components, for convolutions.

    Example:
      >>> import numpy as np
      >>> from jaxtrain.data import preprocessing
      >>> images = np.array([[10, 20], [30, 40], [50, 60]], np.uint8).reshape(3, 1, 1, 2)  # 1x1 pixel, 2 channels
      >>> print(np.abs(preprocessing.pca().fit([images]).apply(images)).reshape(3, 2).round(3))
      [[0.111 0.   ]
       [0.    0.   ]
       [0.111 0.   ]]
    """
    return Components(components, None, rotate_back)


def whiten(epsilon: NonNegativeFloat = 1e-5, components: PositiveInt | None = None) -> PreprocessingFitter:
    """Whiten images by PCA: each principal component divided by sqrt(variance + epsilon), in the order of `pca`.

    Args:
      epsilon: the constant added to the variances, in units of squared pixels in [0, 1]. With 0 the covariance is I,
        and components of pure noise are amplified to the same variance as all others.
      components: the number of components that are kept, at most H * W * C; the others are 0. None for all.

    Example:
      >>> import numpy as np
      >>> from jaxtrain.data import preprocessing
      >>> images = np.random.RandomState(0).randint(0, 256, (100, 2, 1, 1)).astype(np.uint8)
      >>> whitened = preprocessing.whiten(epsilon=0.0).fit([images]).apply(images).reshape(100, 2)
      >>> print(np.abs(np.cov(whitened, rowvar=False, bias=True)).round(2))
      [[1. 0.]
       [0. 1.]]
    """
    return Components(components, epsilon, False)


def zca(epsilon: NonNegativeFloat = 1e-2) -> PreprocessingFitter:
    """Whiten images by ZCA, the symmetric matrix U (S + epsilon)^(-1/2) U'.

    Of all whitening transforms this one changes the images least.

    Args:
      epsilon: the constant added to the variances S of the principal components, in units of squared pixels in [0, 1].
        Larger values amplify the small components less, which are mostly noise. Libraries that first scale pixels to
        variance 1 state epsilon in that unit: 0.1 there is 0.1 times the mean pixel variance here, 0.006 for CIFAR-10.

    Example:
      >>> import numpy as np
      >>> from jaxtrain.data import preprocessing
      >>> images = np.random.RandomState(0).randint(0, 256, (100, 2, 1, 1)).astype(np.uint8)
      >>> whitened = preprocessing.zca(epsilon=0.0).fit([images]).apply(images).reshape(100, 2)
      >>> print(np.abs(np.cov(whitened, rowvar=False, bias=True)).round(2))
      [[1. 0.]
       [0. 1.]]
    """
    return Components(None, epsilon, True)
