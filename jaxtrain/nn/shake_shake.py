"""Shake-shake (Gastaldi 2017, arXiv:1705.07485): two branches mixed at random, their gradients by other numbers."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxtrain.random import draw_by_example

Forward = Literal["shake", "even"]
"""A number of its own for each, or 1/2."""
Backward = Literal["shake", "keep", "even"]
"""A number of its own for each, that of the forward pass, or 1/2."""


@jax.custom_jvp
def shake_given(alpha: jax.Array, beta: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
    """`alpha first + (1 - alpha) second`, with the derivative of `beta first + (1 - beta) second` (equation 2).

    So `first` gets exactly `beta` times the gradient, and `second` exactly (1 - `beta`) times. There is none by `alpha`
    and `beta`.

    Args:
      alpha: in [0, 1], of the branches' rank: `[N, 1, ..., 1]` or `[1, ..., 1]`.
      beta: the same.
      first: `[N, ...]`, one branch.
      second: the other.
    """
    del beta
    return _mixed(alpha, first, second)


@shake_given.defjvp
def _derivative(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
    alpha, beta, first, second = primals
    return shake_given(alpha, beta, first, second), _mixed(beta, tangents[2], tangents[3])


def _mixed(share: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
    return share * first + (1 - share) * second


def shake(
    key: jax.Array,
    first: jax.Array,
    second: jax.Array,
    forward: Forward = "shake",
    backward: Backward = "shake",
    *,
    per_example: bool = True,
) -> jax.Array:
    """`shake_given` with uniform numbers that `key` draws, for each example ("Image" in the paper) or for the batch."""
    ones = (1,) * (first.ndim - 1)
    shape = (first.shape[0] if per_example else 1, *ones)
    forth, back = jax.random.split(key)

    def draw(key: jax.Array) -> jax.Array:
        if per_example:
            return draw_by_example(lambda own: jax.random.uniform(own, ones, first.dtype), key, first)
        return jax.random.uniform(key, shape, first.dtype)

    even = jnp.full(shape, 0.5, first.dtype)
    alpha = even if forward == "even" else draw(forth)
    beta = {"shake": lambda: draw(back), "keep": lambda: alpha, "even": lambda: even}[backward]()
    return shake_given(alpha, beta, first, second)


class ShakeShake(nn.Module):
    """Two branches as one: mixed at random in training, their mean at test; draws from the stream "dropout".

    Attributes:
      train: whether this is training.
      forward: by what they are mixed.
      backward: by what their gradients are.
      per_example: whether each example has numbers of its own; the paper's best is shake-shake with them.
    """

    train: bool
    forward: Forward = "shake"
    backward: Backward = "shake"
    per_example: bool = True

    @nn.compact
    def __call__(self, first: jax.Array, second: jax.Array) -> jax.Array:
        """Two of `[N, ...]` -> the same shape and dtype."""
        if not self.train:
            return 0.5 * first + 0.5 * second
        key = self.make_rng("dropout")
        return shake(key, first, second, self.forward, self.backward, per_example=self.per_example)
