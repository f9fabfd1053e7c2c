"""Dropout (Srivastava et al. 2014): inverted, vanilla, spatial, Gaussian and alpha dropout.

`rate` is always the probability that a value is dropped, as in flax. The paper's p is the probability that a value is
kept, 1 - `rate`.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxtrain.nn.stochastic_depth import Scaling
from jaxtrain.random import draw_per_example

DropoutKind = Literal["inverted", "vanilla", "spatial", "gaussian", "alpha"]
"""In this order: scaled in training; scaled in evaluation; whole channels, scaled in training; multiplication by normal
noise; dropout for SELU."""

SELU_LIMIT = 1.7580993408473766
"""The limit of SELU at minus infinity, without its sign: scale * alpha (Klambauer et al. 2017)."""
_WORD = 32
_WIDTHS = (1, 2, 4, 8, 16)


def draw_dropout_mask(key: jax.Array, x: jax.Array, rate: float, *, spatial: bool = False) -> jax.Array:
    """Return a bool mask, true with probability 1 - `rate`: `x`'s shape, or `[N, 1, ..., 1, C]` if `spatial`.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> jaxtrain.nn.draw_dropout_mask(jax.random.key(0), jnp.ones((2, 4, 4, 3)), 0.5, spatial=True).shape
      (2, 1, 1, 3)
    """
    shape = (*(1,) * (x.ndim - 2), x.shape[-1]) if spatial else x.shape[1:]
    return draw_per_example(lambda key: draw_mask(key, 1 - rate, shape), key, x)


def dropout_given(mask: jax.Array, x: jax.Array, rate: float, scaling: Scaling = "in_training") -> jax.Array:
    """Return the training output of dropout for a given mask: `x` where `mask` is true and 0 elsewhere.

    Args:
      mask: bool, of `x`'s shape or with axes of 1.
      x: values of any shape and floating dtype; the result has the same.
      rate: the probability that a value is dropped, in [0, 1).
      scaling: "in_training" divides by 1 - `rate` ("inverted" dropout); "at_test" leaves the scaling to evaluation,
        which multiplies by 1 - `rate` (section 4 of the paper).

    Raises:
      ValueError: the rate is outside [0, 1).

    Example:
      >>> import jax.numpy as jnp, jaxtrain
      >>> jaxtrain.nn.dropout_given(jnp.array([True, False]), jnp.array([1.0, 2.0]), rate=0.5).tolist()
      [2.0, 0.0]
    """
    _check(rate)
    masked = jnp.where(mask, x, jnp.zeros((), x.dtype))
    return masked / (1 - rate) if scaling == "in_training" else masked


def dropout(
    key: jax.Array, x: jax.Array, rate: float, scaling: Scaling = "in_training", *, spatial: bool = False
) -> jax.Array:
    """Return `dropout_given` with a mask drawn from `key`.

    The mask has one gate per value, or one per channel of an example if `spatial` (Tompson et al. 2015).

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> jaxtrain.nn.dropout(jax.random.key(0), jnp.ones((2, 4)), rate=0.5).tolist()
      [[0.0, 2.0, 2.0, 2.0], [0.0, 2.0, 0.0, 2.0]]
    """
    _check(rate)
    return dropout_given(draw_dropout_mask(key, x, rate, spatial=spatial), x, rate, scaling)


def gaussian_dropout_given(noise: jax.Array, x: jax.Array, rate: float) -> jax.Array:
    """Return x * (1 + sqrt(rate / (1 - rate)) * noise), with the mean and variance of dropout (section 10).

    Args:
      noise: standard normal numbers of `x`'s shape.
      x: values of any shape and floating dtype.
      rate: the rate of the dropout with the same mean and variance, in [0, 1).

    Raises:
      ValueError: the rate is outside [0, 1).

    Example:
      >>> import jax.numpy as jnp, jaxtrain
      >>> jaxtrain.nn.gaussian_dropout_given(jnp.array([-1.0, 1.0]), jnp.array([2.0, 2.0]), rate=0.2).tolist()
      [1.0, 3.0]
    """
    _check(rate)
    return x * (1 + math.sqrt(rate / (1 - rate)) * noise)


def gaussian_dropout(key: jax.Array, x: jax.Array, rate: float) -> jax.Array:
    """Return `gaussian_dropout_given` with noise drawn from `key`.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> y = jaxtrain.nn.gaussian_dropout(jax.random.key(0), jnp.ones((100, 100)), rate=0.2)
      >>> print(f"mean {y.mean():.1f}, standard deviation {y.std():.1f}")
      mean 1.0, standard deviation 0.5
    """
    noise = draw_per_example(lambda key: jax.random.normal(key, x.shape[1:], x.dtype), key, x)
    return gaussian_dropout_given(noise, x, rate)


def alpha_dropout_given(mask: jax.Array, x: jax.Array, rate: float) -> jax.Array:
    """Set dropped values to SELU's lower limit, then restore mean 0 and variance 1 (Klambauer et al. 2017, p. 6).

    Args:
      mask: bool of `x`'s shape, true for values that are kept.
      x: values with mean 0 and variance 1.
      rate: the probability that a value is dropped, in [0, 1).

    Raises:
      ValueError: the rate is outside [0, 1).

    Example:
      >>> import jax.numpy as jnp, jaxtrain
      >>> y = jaxtrain.nn.alpha_dropout_given(jnp.array([True, False]), jnp.array([1.0, 1.0]), rate=0.2)
      >>> [round(float(value), 3) for value in y]
      [1.188, -1.236]
    """
    _check(rate)
    masked = jnp.where(mask, x, jnp.full((), -SELU_LIMIT, x.dtype))
    return (masked + SELU_LIMIT * rate) / math.sqrt((1 - rate) * (1 + rate * SELU_LIMIT**2))


def alpha_dropout(key: jax.Array, x: jax.Array, rate: float) -> jax.Array:
    """Return `alpha_dropout_given` with a mask drawn from `key`.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> x = jnp.tile(jnp.array([-1.0, 1.0]), (100, 50))
      >>> y = jaxtrain.nn.alpha_dropout(jax.random.key(0), x, rate=0.25)
      >>> print(f"mean {abs(y.mean()):.1f}, variance {y.var():.1f}")
      mean 0.0, variance 1.0
    """
    _check(rate)
    return alpha_dropout_given(draw_dropout_mask(key, x, rate), x, rate)


class Dropout(nn.Module):
    """Dropout as a layer; in training it draws from the random stream "dropout".

    In evaluation it returns its input, except that "vanilla" multiplies by 1 - `rate`.

    Attributes:
      train: whether this is training.
      rate: the probability that a value is dropped, in [0, 1); 0 draws nothing.
      kind: the kind of dropout; see `DropoutKind`.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> layer = jaxtrain.nn.Dropout(train=True, rate=0.5)
      >>> layer.apply({}, jnp.ones((2, 4)), rngs={"dropout": jax.random.key(0)}).tolist()
      [[2.0, 0.0, 0.0, 0.0], [0.0, 2.0, 2.0, 0.0]]
    """

    train: bool
    rate: float
    kind: DropoutKind = "inverted"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return `x[N, ...]` after dropout, of the same shape and dtype."""
        _check(self.rate)
        if not self.rate:
            return x
        if not self.train:
            return x * (1 - self.rate) if self.kind == "vanilla" else x
        key = self.make_rng("dropout")
        if self.kind == "gaussian":
            return gaussian_dropout(key, x, self.rate)
        if self.kind == "alpha":
            return alpha_dropout(key, x, self.rate)
        scaling: Scaling = "at_test" if self.kind == "vanilla" else "in_training"
        return dropout(key, x, self.rate, scaling, spatial=self.kind == "spatial")


def _check(rate: float) -> None:
    if not 0 <= rate < 1:
        raise ValueError(f"dropout rate of {rate} is out of range: the probability of being dropped must be in [0, 1)")


def draw_mask(key: jax.Array, probability: float, shape: tuple[int, ...]) -> jax.Array:
    """Draw booleans of `shape`, each true with `probability`.

    A probability n / 2^b with b <= 16 is exact and takes 1, 2, 4, 8 or 16 random bits per boolean. For 1/2 this takes a
    thirteenth of the time of `jax.random.bernoulli` on a CPU. Other probabilities use `jax.random.bernoulli`.

    Example:
      >>> import jax, jaxtrain
      >>> jaxtrain.nn.draw_mask(jax.random.key(0), 0.75, (4,)).tolist()
      [False, True, True, True]
    """
    width = next((b for b in _WIDTHS if (probability * 2**b).is_integer()), None)
    if width is None or not shape or not 0 < probability < 1:
        return jax.random.bernoulli(key, probability, shape)
    count = math.prod(shape)
    words = jax.random.bits(key, (-(-count * width // _WORD), 1), jnp.uint32)
    shifts = np.arange(0, _WORD, width, dtype=np.uint32)[None]
    fields = (words >> shifts) & np.uint32(2**width - 1)
    return (fields.reshape(-1)[:count] < np.uint32(probability * 2**width)).reshape(shape)
