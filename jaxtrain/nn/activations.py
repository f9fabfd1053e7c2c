"""Activation functions, and their names for the `activation` option of models."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

Activation = Literal["relu", "tanh", "sigmoid", "leaky_relu", "prelu", "elu", "gelu", "silu", "scaled_tanh", "identity"]


class PReLU(nn.Module):
    """The activation max(x, 0) + slope * min(x, 0) with a learned slope (He et al. 2015, equation 1).

    Attributes:
      per_channel: whether each channel (the last axis) has a slope of its own; otherwise all share one.
      initial: the initial value of the slopes.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> x = jnp.array([[-4.0, 2.0]])
      >>> y, variables = jaxtrain.nn.PReLU().init_with_output(jax.random.key(0), x)
      >>> y.tolist(), variables["params"]["slope"].tolist()
      ([[-1.0, 2.0]], [0.25, 0.25])
    """

    per_channel: bool = True
    initial: float = 0.25

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the activation of `x[..., C]`, of the same shape and dtype."""
        count = x.shape[-1] if self.per_channel else 1
        slope = self.param("slope", nn.initializers.constant(self.initial), (count,)).astype(x.dtype)
        slope = slope.reshape((1,) * (x.ndim - 1) + (count,))
        return jnp.where(x > 0, x, slope * x)


def scaled_tanh(x: jax.Array) -> jax.Array:
    """Return 1.7159 tanh(2 x / 3), which maps 1 to 1 and -1 to -1 (LeCun et al. 1998, appendix A).

    Example:
      >>> import jax.numpy as jnp, jaxtrain
      >>> [round(float(y), 3) for y in jaxtrain.nn.scaled_tanh(jnp.array([-1.0, 0.0, 1.0, 9.0]))]
      [-1.0, 0.0, 1.0, 1.716]
    """
    return 1.7159 * jnp.tanh(2 / 3 * x)


def leaky_relu(x: jax.Array, slope: float = 0.01) -> jax.Array:
    """Return x where x > 0 and slope * x elsewhere (Maas et al. 2013).

    Example:
      >>> import jax.numpy as jnp, jaxtrain
      >>> jaxtrain.nn.leaky_relu(jnp.array([-4.0, 2.0]), slope=0.25).tolist()
      [-1.0, 2.0]
    """
    return jnp.where(x > 0, x, slope * x)


def maxout(x: jax.Array, pieces: int) -> jax.Array:
    """Return the maximum of each `pieces` neighboring channels: `[..., C]` -> `[..., C / pieces]`.

    After a layer with C = features * pieces linear maps, this is the maxout unit max_j (w_j x + b_j)
    (Goodfellow et al. 2013).

    Raises:
      ValueError: the number of channels is not a multiple of `pieces`.

    Example:
      >>> import jax.numpy as jnp, jaxtrain
      >>> jaxtrain.nn.maxout(jnp.array([[1.0, 5.0, -2.0, -3.0]]), pieces=2).tolist()
      [[5.0, -2.0]]
    """
    channels = x.shape[-1]
    if channels % pieces:
        raise ValueError(
            f"maxout: {channels} channels cannot be divided into groups of {pieces}; choose a multiple of {pieces}"
        )
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
    """Return the activation function called `name`.

    "gelu" is the exact form, without the tanh approximation. "prelu" is a new Linen module, so call it inside a compact
    method.

    Example:
      >>> import jax.numpy as jnp, jaxtrain
      >>> jaxtrain.nn.activation("relu")(jnp.array([-1.0, 2.0])).tolist()
      [0.0, 2.0]
    """
    return PReLU() if name == "prelu" else _FUNCTIONS[name]
