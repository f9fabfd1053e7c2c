"""A linear map of flattened, centered images, for decorrelation and whitening."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class LinearMap:
    """A map of images with D = H * W * C features: `(pixel / 255 - mean) @ matrix`, reshaped to an image.

    If the matrix has fewer than D columns, the last coordinates are 0, so that the shape stays the same.

    Attributes:
      mean: the mean f64[H, W, C] of pixels in [0, 1].
      matrix: the matrix f32[D, K] from pixels to coordinates.
      back: the matrix f32[K, D] from coordinates to pixels.
    """

    mean: np.ndarray
    matrix: np.ndarray
    back: np.ndarray

    def __post_init__(self) -> None:
        features, outputs = self.mean.size, self.matrix.shape[-1]
        if self.mean.ndim != 3 or self.matrix.shape != (features, outputs) or self.back.shape != (outputs, features):
            raise ValueError(
                f"matrices of {self.matrix.shape} and {self.back.shape} do not fit a mean image of {self.mean.shape}; "
                f"they must be (D, K) and (K, D), with D = H * W * C"
            )

    def apply(self, images: jax.Array) -> jax.Array:
        """See `Preprocessing`; an image takes D * K multiply-adds, in full float32 on every device."""
        mean = self.mean.astype(np.float32).reshape(*(1,) * (images.ndim - 3), *self.mean.shape)
        centered = images.astype(jnp.float32) * np.float32(1 / 255) - mean
        values = _matmul(centered.reshape(*images.shape[:-3], -1), self.matrix)
        padding = self.mean.size - values.shape[-1]
        return jnp.pad(values, ((0, 0),) * (values.ndim - 1) + ((0, padding),)).reshape(images.shape)

    def inverse(self, values: jax.Array) -> jax.Array:
        """See `Preprocessing`."""
        flat = values.reshape(*values.shape[:-3], math.prod(values.shape[-3:]))
        mean = self.mean.astype(np.float32).reshape(*(1,) * (values.ndim - 3), *self.mean.shape)
        pixels = _matmul(flat[..., : len(self.back)], self.back).reshape(values.shape) + mean
        return jnp.clip(pixels, 0.0, 1.0)


def _matmul(vectors: jax.Array, matrix: np.ndarray) -> jax.Array:
    # Whitening amplifies directions of small variance, and the devices' default precision (TF32, bfloat16) loses them.
    return jnp.matmul(vectors, matrix, precision=jax.lax.Precision.HIGHEST)
