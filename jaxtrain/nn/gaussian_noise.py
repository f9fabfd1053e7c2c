"""Additive Gaussian noise in training.

With a quadratic loss it acts as a penalty on the gradient of the outputs by the inputs (Bishop 1995).
"""

import jax
from flax import linen as nn

from jaxtrain.random import draw_per_example


def gaussian_noise_given(noise: jax.Array, x: jax.Array, deviation: float) -> jax.Array:
    """Return x + deviation * noise.

    Args:
      noise: standard normal numbers of `x`'s shape and dtype.
      x: `[N, ...]` of any floating dtype.
      deviation: the standard deviation, in the units of `x`.

    Example:
      >>> import jax.numpy as jnp, jaxtrain
      >>> jaxtrain.nn.gaussian_noise_given(jnp.array([-1.0, 2.0]), jnp.array([5.0, 5.0]), deviation=0.5).tolist()
      [4.5, 6.0]
    """
    return x + deviation * noise


def gaussian_noise(key: jax.Array, x: jax.Array, deviation: float) -> jax.Array:
    """Return `gaussian_noise_given` with noise drawn from `key`.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> y = jaxtrain.nn.gaussian_noise(jax.random.key(0), jnp.zeros((100, 100)), deviation=0.5)
      >>> print(f"mean {abs(y.mean()):.1f}, standard deviation {y.std():.1f}")
      mean 0.0, standard deviation 0.5
    """
    noise = draw_per_example(lambda key: jax.random.normal(key, x.shape[1:], x.dtype), key, x)
    return gaussian_noise_given(noise, x, deviation)


class GaussianNoise(nn.Module):
    """Additive noise in training, and the identity in evaluation; it draws from the random stream "dropout".

    Attributes:
      train: whether this is training.
      deviation: the standard deviation of the noise, in the units of the input; 0 draws nothing.

    Example:
      >>> import jax.numpy as jnp, jaxtrain
      >>> jaxtrain.nn.GaussianNoise(train=False, deviation=0.5).apply({}, jnp.ones((1, 2))).tolist()
      [[1.0, 1.0]]
    """

    train: bool
    deviation: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return `x[N, ...]` with noise added, of the same shape and dtype."""
        if not self.train or not self.deviation:
            return x
        return gaussian_noise(self.make_rng("dropout"), x, self.deviation)
