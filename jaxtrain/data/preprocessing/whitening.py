"""Principal components of the training images: decorrelated, whitened, and whitened as images (ZCA)."""

import dataclasses
import math
from typing import Any

import numpy as np

from jaxtrain.annotations import NonNegativeFloat, PositiveInt
from jaxtrain.data.preprocessing.base import Batches, Recipe
from jaxtrain.data.preprocessing.linear import LinearMap
from jaxtrain.data.preprocessing.moments import cross_sums, pixel_sums

MOST_FEATURES = 8192
"""Their covariance takes 0.5 GiB, and so do its eigenvectors, whose time grows with the cube of this."""


@dataclasses.dataclass(frozen=True, eq=False)
class Spectrum:
    """What a covariance is made of.

    Attributes:
      mean: f64[H, W, C], of pixels in [0, 1].
      variances: f64[D], along the components, the largest first; by N.
      vectors: f64[D, D], the components as columns; the largest entry of each is positive.
    """

    mean: np.ndarray
    variances: np.ndarray
    vectors: np.ndarray


def spectrum(batches: Batches) -> Spectrum:
    """The principal components of images uint8[N, H, W, C]."""
    sums = cross_sums(batches)
    variances, vectors = np.linalg.eigh(sums.covariance)
    variances, vectors = variances[::-1], vectors[:, ::-1]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    return Spectrum(sums.mean, np.maximum(variances, 0), vectors * np.where(largest < 0, -1.0, 1.0))


@dataclasses.dataclass(frozen=True)
class Components(Recipe):
    """The recipe of the kinds that look at all features together.

    Attributes:
      components: how many are kept, of the largest variance; None for all.
      epsilon: added to variances before division by their root; None where nothing is divided.
      rotate_back: whether what is left of an image is given as pixels again.
    """

    components: int | None
    epsilon: float | None
    rotate_back: bool

    def check(self, image_shape: tuple[int, int, int]) -> None:
        """See `Recipe`."""
        h, w, c = image_shape
        features = math.prod(image_shape)
        if features > MOST_FEATURES:
            raise ValueError(
                f"an image of {h}x{w}x{c} has {features:,} features, and their covariance would take "
                f"{8 * features**2 / 2**30:,.0f} GiB; at most {MOST_FEATURES:,} are taken. Use mean_std, mean_image or "
                "standardize, which look at one feature at a time, or make images smaller with data.resize"
            )
        if self.components is not None and self.components > features:
            raise ValueError(f"{self.components:,} components are wanted, and an image of {h}x{w}x{c} has {features:,}")

    def fit(self, batches: Batches) -> LinearMap:
        """See `Recipe`."""
        found = spectrum(batches)
        gains = _gains(found.variances, self.epsilon)[: self.components]
        vectors = found.vectors[:, : self.components]
        matrix = vectors * gains
        back = vectors * np.divide(1.0, gains, out=np.zeros_like(gains), where=gains > 0)
        if self.rotate_back:
            matrix, back = matrix @ vectors.T, back @ vectors.T
        else:
            back = back.T
        return LinearMap(found.mean, matrix.astype(np.float32), np.ascontiguousarray(back, np.float32))

    def fits(self, fitted: Any, batches: Batches) -> bool:
        """See `Recipe`. Eigenvectors are not computed again: another library's differ in their last bits."""
        return isinstance(fitted, LinearMap) and np.array_equal(fitted.mean, pixel_sums(batches).mean)


def _gains(variances: np.ndarray, epsilon: float | None) -> np.ndarray:
    """What each component is multiplied by; 0 where there is no variance but that of rounding."""
    if epsilon is None:
        return np.ones_like(variances)
    least = variances.max() * len(variances) * np.finfo(np.float64).eps
    shifted = variances + epsilon
    return np.divide(1.0, np.sqrt(shifted), out=np.zeros_like(shifted), where=shifted > least)


def pca(components: PositiveInt | None = None, rotate_back: bool = False) -> Recipe:
    """Centered and rotated to principal components: the covariance is diagonal, the largest variance first.

    The coordinates are laid out in the shape of the image (component i at place i of the flattened image), so that any
    model takes them; but neighbors in it are none in the picture, which is for dense nets and not for convolutions.

    Args:
      components: how many coordinates are kept, at most H * W * C; the others are 0. None for all.
      rotate_back: gives pixels again, of which the components left out are missing: for convolutions.
    """
    return Components(components, None, rotate_back)


def whiten(epsilon: NonNegativeFloat = 1e-5, components: PositiveInt | None = None) -> Recipe:
    """Principal components, each divided by sqrt(variance + epsilon); laid out as with `pca`.

    Args:
      epsilon: in squares of pixels in [0, 1]. With 0 the covariance is I, and noise is as large as anything.
      components: how many coordinates are kept, at most H * W * C; the others are 0. None for all.
    """
    return Components(components, epsilon, False)


def zca(epsilon: NonNegativeFloat = 1e-2) -> Recipe:
    """Whitened by the symmetric matrix U (S + epsilon)^(-1/2) U': of all whitened images those nearest to the images.

    Args:
      epsilon: added to the variances S of principal components, in squares of pixels in [0, 1]. Larger values leave
        more of the small components, which are noise mostly. Libraries that first bring pixels to variance 1 write it
        in that unit: 0.1 there is 0.1 times the mean variance of a pixel here, 0.006 for CIFAR-10.
    """
    return Components(None, epsilon, True)
