"""Additive normal noise in training (Bishop 1995: with a quadratic loss it acts as a penalty on the slopes)."""

import jax
from flax import linen as nn

from jaxtrain.random import draw_by_example


def gaussian_noise_given(noise: jax.Array, x: jax.Array, deviation: float) -> jax.Array:
    """`x` + `deviation` * `noise`.

    Args:
      noise: standard normal, of `x`'s shape and dtype.
      x: `[N, ...]` of any floating dtype.
      deviation: in the units of `x`.
    """
    return x + deviation * noise


def gaussian_noise(key: jax.Array, x: jax.Array, deviation: float) -> jax.Array:
    """`gaussian_noise_given` with what `key` draws."""
    noise = draw_by_example(lambda own: jax.random.normal(own, x.shape[1:], x.dtype), key, x)
    return gaussian_noise_given(noise, x, deviation)


class GaussianNoise(nn.Module):
    """Noise in training, nothing at test; draws from the stream "dropout".

    Attributes:
      train: whether this is training.
      deviation: of the noise, in the units of what it is added to; 0 draws nothing.
    """

    train: bool
    deviation: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`x[N, ...]` -> the same shape and dtype."""
        if not self.train or not self.deviation:
            return x
        return gaussian_noise(self.make_rng("dropout"), x, self.deviation)
