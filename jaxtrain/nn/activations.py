"""Activation functions by name, for the `activation` option of models."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

Activation = Literal["relu", "tanh", "sigmoid", "leaky_relu", "prelu", "elu", "gelu", "silu", "scaled_tanh", "identity"]


class PReLU(nn.Module):
    """max(x, 0) + slope * min(x, 0), the slope learned (He et al. 2015, equation 1).

    Attributes:
      per_channel: a slope for each channel, the last axis; else one for all.
      initial: of the slopes.
    """

    per_channel: bool = True
    initial: float = 0.25

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`x[..., C]` -> the same shape and dtype."""
        count = x.shape[-1] if self.per_channel else 1
        slope = self.param("slope", nn.initializers.constant(self.initial), (count,)).astype(x.dtype)
        slope = slope.reshape((1,) * (x.ndim - 1) + (count,))
        return jnp.where(x > 0, x, slope * x)


def scaled_tanh(x: jax.Array) -> jax.Array:
    """1.7159 tanh(2 x / 3): from -1 and 1 to themselves (LeCun et al. 1998, appendix A)."""
    return 1.7159 * jnp.tanh(2 / 3 * x)


def leaky_relu(x: jax.Array, slope: float = 0.01) -> jax.Array:
    """x where it is positive, slope * x elsewhere (Maas et al. 2013)."""
    return jnp.where(x > 0, x, slope * x)


def maxout(x: jax.Array, pieces: int) -> jax.Array:
    """The maximum of every `pieces` neighboring channels (Goodfellow et al. 2013): `[..., C]` -> `[..., C / pieces]`.

    After a layer of C = features * pieces linear maps, it is the maxout unit max_j (w_j x + b_j).

    Raises:
      ValueError: where the channels do not divide.
    """
    channels = x.shape[-1]
    if channels % pieces:
        raise ValueError(f"{channels} channels do not divide into groups of {pieces} for maxout")
    return x.reshape(*x.shape[:-1], channels // pieces, pieces).max(axis=-1)


_FUNCTIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "tanh": nn.tanh,
    "sigmoid": nn.sigmoid,
    "leaky_relu": leaky_relu,
    "elu": nn.elu,
    "gelu": lambda x: nn.gelu(x, approximate=False),
    "silu": nn.silu,
    "scaled_tanh": scaled_tanh,
    "identity": lambda x: x,
}


def activation(name: str) -> Callable[[jax.Array], jax.Array]:
    """The function called `name`; "prelu" is a new module, to be called inside a compact method."""
    return PReLU() if name == "prelu" else _FUNCTIONS[name]
