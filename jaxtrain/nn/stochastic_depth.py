"""Stochastic depth (Huang et al. 2016): a residual branch is there in training with some probability."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxtrain.random import draw_by_example

Scaling = Literal["at_test", "in_training"]
"""At test the branch is multiplied by its probability, as in the paper; or in training divided by it ("inverted")."""


def drop_path_given(present: jax.Array, x: jax.Array, survival: float, scaling: Scaling = "at_test") -> jax.Array:
    """A branch's output in training.

    Args:
      present: bool[] for the batch, or bool[N] for each example.
      x: `[N, ...]`, what the branch gives.
      survival: the probability with which it is present.
      scaling: which convention; where nothing ever survives there is nothing to divide.
    """
    mask = present.reshape(-1, *(1,) * (x.ndim - 1)) if present.ndim else present
    kept = jnp.where(mask, x, jnp.zeros((), x.dtype))
    return kept / survival if scaling == "in_training" and survival else kept


def drop_path(
    key: jax.Array, x: jax.Array, survival: float, scaling: Scaling = "at_test", *, per_example: bool = False
) -> jax.Array:
    """`drop_path_given` with what `key` draws: once for the batch, as in the paper, or for each example."""

    def draw(own: jax.Array) -> jax.Array:
        return jax.random.bernoulli(own, survival)

    present = draw_by_example(draw, key, x) if per_example else draw(key)
    return drop_path_given(present, x, survival, scaling)


def linear_decay(block: int, blocks: int, last: float) -> float:
    """The survival of block 1 <= l <= L: 1 - l / L * (1 - p_L) (equation 4)."""
    return 1 - block / blocks * (1 - last)


class StochasticDepth(nn.Module):
    """The branch `x` in training and at test; draws from the stream "dropout".

    Attributes:
      train: whether this is training.
      survival: probability of being present; 1 draws nothing.
      scaling: which convention.
      per_example: whether each example has a draw of its own.
    """

    train: bool
    survival: float = 1.0
    scaling: Scaling = "at_test"
    per_example: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`x[N, ...]` -> the same shape and dtype."""
        if self.survival == 1:
            return x
        if self.train:
            return drop_path(self.make_rng("dropout"), x, self.survival, self.scaling, per_example=self.per_example)
        return x * self.survival if self.scaling == "at_test" else x
