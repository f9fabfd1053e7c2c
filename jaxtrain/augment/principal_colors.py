"""Color shifts along the principal axes of a data set's colors (Krizhevsky et al. 2012, section 4.1)."""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.annotations import NonNegativeFloat, Probability
from jaxtrain.augment.draws import apply_with_probability
from jaxtrain.augment.geometry import Augmentation
from jaxtrain.augment.levels import cast_like, luma, to_float, white_value

Vector = tuple[float, ...]


class ColorPca(NamedTuple):
    """The principal axes of a data set's colors, for pixels in [0, 1].

    Attributes:
      eigenvalues: eigenvalues of the channels' covariance, the largest first.
      eigenvectors: eigenvectors of length 1, one for each eigenvalue.
    """

    eigenvalues: Vector
    eigenvectors: tuple[Vector, ...]


IMAGENET_COLORS = ColorPca(
    (0.2175, 0.0188, 0.0045), ((-0.5675, -0.5808, -0.5836), (0.7192, -0.0045, -0.6948), (0.4009, -0.8140, 0.4203))
)
"""The axes of ImageNet's training images, from Facebook's fb.resnet.torch; there the vectors are columns."""


def fit_color_pca(batches: Iterable[np.ndarray]) -> ColorPca:
    """Return the principal axes of the colors of a training split.

    The sums are integers, so the result does not depend on the order of the images. Of the two directions of an axis,
    it takes the one whose largest component is positive.

    Args:
      batches: uint8[N, H, W, C] arrays, together the training split.

    Raises:
      ValueError: there are no images.
    """
    count, first, second = 0, np.zeros((), np.int64), np.zeros((), np.int64)
    for images in batches:
        pixels = images.reshape(-1, images.shape[-1])
        for start in range(0, len(pixels), 1 << 20):  # in parts, which bounds the memory of the float64 copy
            part = pixels[start : start + (1 << 20)].astype(np.float64)
            count += len(part)
            first = first + part.sum(axis=0).astype(np.int64)
            second = second + np.rint(part.T @ part).astype(np.int64)  # below 2^53, hence exact
    if not count:
        raise ValueError("fit_color_pca needs at least one image")
    mean = first / count
    values, vectors = np.linalg.eigh((second / count - np.outer(mean, mean)) / 255**2)
    axes = []
    for vector in vectors.T[::-1]:
        axes.append(tuple(float(v) for v in vector * np.sign(vector[np.abs(vector).argmax()])))
    return ColorPca(tuple(float(max(v, 0.0)) for v in values[::-1]), tuple(axes))


def fancy_pca_given(coefficients: jax.Array, image: jax.Array, pca: ColorPca = IMAGENET_COLORS) -> jax.Array:
    """Add to each pixel of `image[H, W, C]` the sum of axes times eigenvalues times `coefficients` f32[C].

    For axes of three channels, an image of one channel shifts by the luma of the shift.
    """
    channels = len(pca.eigenvalues)
    scaled = coefficients * jnp.array(pca.eigenvalues, jnp.float32)
    shift = (scaled.reshape(-1, 1) * jnp.array(pca.eigenvectors, jnp.float32)).sum(axis=0).reshape(1, 1, channels)
    if image.shape[2] == 1 and channels == 3:
        shift = luma(shift)
    elif image.shape[2] != channels:
        raise ValueError(f"the principal axes have {channels} channels, but the images {image.shape[2]}")
    return cast_like(to_float(image) + white_value(image) * shift, image)


def fancy_pca(
    std: NonNegativeFloat = 0.1,
    eigenvalues: tuple[NonNegativeFloat, ...] = IMAGENET_COLORS.eigenvalues,
    eigenvectors: tuple[Vector, ...] = IMAGENET_COLORS.eigenvectors,
    probability: Probability = 1.0,
) -> Augmentation:
    """Shift all pixels by one color, normally distributed along the principal axes (AlexNet's PCA lighting).

    Args:
      std: standard deviation of the coefficient of each axis, in units of its eigenvalue.
      eigenvalues: eigenvalues of the channels' covariance, for pixels in [0, 1]. A run supplies those of its training
        split, from `fit_color_pca`; the factory's defaults are ImageNet's.
      eigenvectors: eigenvectors, one for each eigenvalue, with one number for each channel.
      probability: the probability of applying it.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> image = jnp.full((1, 1, 3), 128, jnp.uint8)
      >>> augment = jaxtrain.augment.fancy_pca(std=0.1)
      >>> jax.jit(augment)(jax.random.key(0), image)[0, 0].tolist()
      [135, 136, 137]
    """
    pca = ColorPca(tuple(eigenvalues), tuple(tuple(v) for v in eigenvectors))
    lengths = [len(v) for v in pca.eigenvectors]
    if lengths != [len(pca.eigenvalues)] * len(pca.eigenvalues):
        raise ValueError(f"{len(pca.eigenvalues)} eigenvalues need as many eigenvectors of that length, not {lengths}")

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        return fancy_pca_given(std * jax.random.normal(key, (len(lengths),), jnp.float32), image, pca)

    return apply_with_probability(probability, augment)
