"""Dropout in its forms (Srivastava et al. 2014): `rate` is always the probability of being dropped, as in flax.

The slides and the paper write p for the probability of being kept, which is 1 - `rate`.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxtrain.nn.stochastic_depth import Scaling
from jaxtrain.random import draw_by_example

DropoutKind = Literal["inverted", "vanilla", "spatial", "gaussian", "alpha"]
"""Scaled in training; scaled at test; whole channels, scaled in training; multiplied by normal numbers; for SELU."""

SATURATED = 1.7580993408473766
"""What SELU gives far below 0, without its sign: its scale times its alpha (Klambauer et al. 2017)."""
_WORD = 32
_WIDTHS = (1, 2, 4, 8, 16)


def draw_kept(key: jax.Array, x: jax.Array, rate: float, *, spatial: bool = False) -> jax.Array:
    """bool of `x`'s shape, true with probability 1 - `rate`; `[N, 1, ..., 1, C]` for whole channels."""
    shape = (*(1,) * (x.ndim - 2), x.shape[-1]) if spatial else x.shape[1:]
    return draw_by_example(lambda own: draw_gates(own, 1 - rate, shape), key, x)


def dropout_given(kept: jax.Array, x: jax.Array, rate: float, scaling: Scaling = "in_training") -> jax.Array:
    """`x` in training where `kept` says so, and 0 elsewhere.

    Args:
      kept: bool, of `x`'s shape or with axes of 1.
      x: of any shape and floating dtype, which are kept.
      rate: the probability of being dropped, below 1.
      scaling: divides by 1 - `rate` in training ("inverted"), or leaves it to the test to multiply (section 4).

    Raises:
      ValueError: for a rate outside [0, 1).
    """
    _check(rate)
    left = jnp.where(kept, x, jnp.zeros((), x.dtype))
    return left / (1 - rate) if scaling == "in_training" else left


def dropout(
    key: jax.Array, x: jax.Array, rate: float, scaling: Scaling = "in_training", *, spatial: bool = False
) -> jax.Array:
    """`dropout_given` with what `key` draws: a gate a value, or a channel of an example (Tompson et al. 2015)."""
    _check(rate)
    return dropout_given(draw_kept(key, x, rate, spatial=spatial), x, rate, scaling)


def gaussian_dropout_given(noise: jax.Array, x: jax.Array, rate: float) -> jax.Array:
    """`x` times 1 + sqrt(rate / (1 - rate)) `noise`, which has the mean and variance of dropout (section 10).

    Args:
      noise: standard normal, of `x`'s shape.
      x: of any shape and floating dtype.
      rate: of the dropout that it stands for.

    Raises:
      ValueError: for a rate outside [0, 1).
    """
    _check(rate)
    return x * (1 + math.sqrt(rate / (1 - rate)) * noise)


def gaussian_dropout(key: jax.Array, x: jax.Array, rate: float) -> jax.Array:
    """`gaussian_dropout_given` with what `key` draws."""
    noise = draw_by_example(lambda own: jax.random.normal(own, x.shape[1:], x.dtype), key, x)
    return gaussian_dropout_given(noise, x, rate)


def alpha_dropout_given(kept: jax.Array, x: jax.Array, rate: float) -> jax.Array:
    """Dropout to where SELU saturates, after which mean 0 and variance 1 are restored (Klambauer et al. 2017, p. 6).

    Args:
      kept: bool of `x`'s shape.
      x: values with mean 0 and variance 1.
      rate: the probability of being dropped, below 1.

    Raises:
      ValueError: for a rate outside [0, 1).
    """
    _check(rate)
    dropped = jnp.where(kept, x, jnp.full((), -SATURATED, x.dtype))
    return (dropped + SATURATED * rate) / math.sqrt((1 - rate) * (1 + rate * SATURATED**2))


def alpha_dropout(key: jax.Array, x: jax.Array, rate: float) -> jax.Array:
    """`alpha_dropout_given` with what `key` draws."""
    _check(rate)
    return alpha_dropout_given(draw_kept(key, x, rate), x, rate)


class Dropout(nn.Module):
    """Dropout of a kind in training and at test; draws from the stream "dropout".

    Attributes:
      train: whether this is training.
      rate: the probability of being dropped, in [0, 1); 0 draws nothing.
      kind: which.
    """

    train: bool
    rate: float
    kind: DropoutKind = "inverted"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`x[N, ...]` -> the same shape and dtype."""
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
        raise ValueError(f"a dropout rate of {rate} is none: it is the probability of being dropped, in [0, 1)")


def draw_gates(key: jax.Array, probability: float, shape: tuple[int, ...]) -> jax.Array:
    """bool of `shape`, each true with `probability`.

    A probability n / 2^b with b of at most 16 is exact, and takes 1, 2, 4, 8 or 16 random bits a gate: for 1/2 a
    thirteenth of the time of `jax.random.bernoulli` on a CPU, which draws any other.
    """
    width = next((b for b in _WIDTHS if (probability * 2**b).is_integer()), None)
    if width is None or not shape or not 0 < probability < 1:
        return jax.random.bernoulli(key, probability, shape)
    count = math.prod(shape)
    words = jax.random.bits(key, (-(-count * width // _WORD), 1), jnp.uint32)
    shifts = np.arange(0, _WORD, width, dtype=np.uint32)[None]
    fields = (words >> shifts) & np.uint32(2**width - 1)
    return (fields.reshape(-1)[:count] < np.uint32(probability * 2**width)).reshape(shape)
