"""An image as one vector, centered and multiplied by a matrix: what decorrelating and whitening come to."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class LinearMap:
    """An image of D = H * W * C features becomes `(pixel / 255 - mean) @ matrix`, in the shape of an image.

    Where the matrix has fewer columns than D, the last coordinates are 0: the shape is kept.

    Attributes:
      mean: f64[H, W, C], of pixels in [0, 1].
      matrix: f32[D, K].
      back: f32[K, D], from coordinates to pixels.
    """

    mean: np.ndarray
    matrix: np.ndarray
    back: np.ndarray

    def __post_init__(self) -> None:
        features, kept = self.mean.size, self.matrix.shape[-1]
        if self.mean.ndim != 3 or self.matrix.shape != (features, kept) or self.back.shape != (kept, features):
            raise ValueError(f"{self.matrix.shape} and {self.back.shape} are no maps of images of {self.mean.shape}")

    def apply(self, images: jax.Array) -> jax.Array:
        """See `Preprocessing`; D * K multiply-adds an image, in full float32 on every device."""
        mean = self.mean.astype(np.float32).reshape(*(1,) * (images.ndim - 3), *self.mean.shape)
        centered = images.astype(jnp.float32) * np.float32(1 / 255) - mean
        found = _multiplied(centered.reshape(*images.shape[:-3], -1), self.matrix)
        left = self.mean.size - found.shape[-1]
        return jnp.pad(found, ((0, 0),) * (found.ndim - 1) + ((0, left),)).reshape(images.shape)

    def inverse(self, values: jax.Array) -> jax.Array:
        """See `Preprocessing`."""
        flat = values.reshape(*values.shape[:-3], math.prod(values.shape[-3:]))
        mean = self.mean.astype(np.float32).reshape(*(1,) * (values.ndim - 3), *self.mean.shape)
        pixels = _multiplied(flat[..., : len(self.back)], self.back).reshape(values.shape) + mean
        return jnp.clip(pixels, 0.0, 1.0)


def _multiplied(vectors: jax.Array, matrix: np.ndarray) -> jax.Array:
    # Whitening amplifies what hardly varies: TF32 or bfloat16, which devices take by default, would drown it.
    return jnp.matmul(vectors, matrix, precision=jax.lax.Precision.HIGHEST)
