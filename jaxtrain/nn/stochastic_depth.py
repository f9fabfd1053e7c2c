"""Stochastic depth (Huang et al. 2016): residual branches that are dropped at random in training."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxtrain.random import draw_per_example

Scaling = Literal["at_test", "in_training"]
"""Multiplication by the survival probability in evaluation (the paper), or division by it in training ("inverted")."""


def stochastic_depth_given(
    present: jax.Array, x: jax.Array, survival: float, scaling: Scaling = "at_test"
) -> jax.Array:
    """Return a branch's output in training for given draws: `x` where `present` is true and 0 elsewhere.

    Args:
      present: bool[] for the batch, or bool[N] for each example.
      x: `[N, ...]`, the branch's output.
      survival: the probability that the branch is present.
      scaling: "in_training" divides by `survival` unless it is 0; "at_test" does not scale here.

    Example:
      >>> import jax.numpy as jnp, jaxtrain
      >>> x = jnp.ones((2, 3))
      >>> jaxtrain.nn.stochastic_depth_given(jnp.array([True, False]), x, survival=0.5, scaling="in_training").tolist()
      [[2.0, 2.0, 2.0], [0.0, 0.0, 0.0]]
    """
    mask = present.reshape(-1, *(1,) * (x.ndim - 1)) if present.ndim else present
    masked = jnp.where(mask, x, jnp.zeros((), x.dtype))
    return masked / survival if scaling == "in_training" and survival else masked


def stochastic_depth(
    key: jax.Array, x: jax.Array, survival: float, scaling: Scaling = "at_test", *, per_example: bool = False
) -> jax.Array:
    """Return `stochastic_depth_given` with a draw from `key`: one per batch, as in the paper, or one per example.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> x = jnp.ones((4, 1))
      >>> jaxtrain.nn.stochastic_depth(jax.random.key(0), x, survival=0.5, per_example=True)[:, 0].tolist()
      [0.0, 1.0, 0.0, 1.0]
    """

    def draw(key: jax.Array) -> jax.Array:
        return jax.random.bernoulli(key, survival)

    present = draw_per_example(draw, key, x) if per_example else draw(key)
    return stochastic_depth_given(present, x, survival, scaling)


def linear_survival(block: int, blocks: int, last: float) -> float:
    """Return the survival probability of block 1 <= l <= L: 1 - l / L * (1 - p_L) (equation 4).

    Args:
      block: the block's index l, from 1.
      blocks: the number of blocks L.
      last: the survival probability p_L of the last block.

    Example:
      >>> import jaxtrain
      >>> [jaxtrain.nn.linear_survival(block, blocks=4, last=0.5) for block in (1, 2, 3, 4)]
      [0.875, 0.75, 0.625, 0.5]
    """
    return 1 - block / blocks * (1 - last)


class StochasticDepth(nn.Module):
    """Stochastic depth of a residual branch; in training it draws from the random stream "dropout".

    Attributes:
      train: whether this is training.
      survival: the probability that the branch is present; 1 draws nothing.
      scaling: the point at which the output is scaled: "at_test" or "in_training".
      per_example: whether each example has a draw of its own; otherwise the batch shares one.

    Example:
      >>> import jax.numpy as jnp, jaxtrain
      >>> jaxtrain.nn.StochasticDepth(train=False, survival=0.5).apply({}, jnp.ones((1, 2))).tolist()
      [[0.5, 0.5]]
    """

    train: bool
    survival: float = 1.0
    scaling: Scaling = "at_test"
    per_example: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the branch's output `x[N, ...]`, dropped or scaled, of the same shape and dtype."""
        if self.survival == 1:
            return x
        if self.train:
            return stochastic_depth(
                self.make_rng("dropout"), x, self.survival, self.scaling, per_example=self.per_example
            )
        return x * self.survival if self.scaling == "at_test" else x
