"""Shake-shake (Gastaldi 2017, arXiv:1705.07485): two branches mixed at random, with other weights for gradients."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxtrain.random import draw_per_example

Forward = Literal["shake", "even"]
"""The forward weight: drawn at random, or 1/2."""
Backward = Literal["shake", "keep", "even"]
"""The backward weight: drawn at random, the same as in the forward pass, or 1/2."""


@jax.custom_jvp
def shake_given(alpha: jax.Array, beta: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
    """Return alpha first + (1 - alpha) second, with the derivative of beta first + (1 - beta) second (equation 2).

    The gradient of `first` is exactly `beta` times the output's gradient, and that of `second` (1 - `beta`) times.
    The gradients of `alpha` and `beta` are 0.

    Args:
      alpha: the forward weight in [0, 1], of the branches' rank: `[N, 1, ..., 1]` or `[1, ..., 1]`.
      beta: the backward weight, of the same shape.
      first: `[N, ...]`, one branch.
      second: `[N, ...]`, the other branch.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> alpha, beta, first, second = (jnp.full((1, 1), value) for value in (0.25, 0.75, 4.0, 8.0))
      >>> y, vjp = jax.vjp(lambda first, second: jaxtrain.nn.shake_given(alpha, beta, first, second), first, second)
      >>> y.tolist(), [gradient.tolist() for gradient in vjp(jnp.ones((1, 1)))]
      ([[7.0]], [[[0.75]], [[0.25]]])
    """
    del beta
    return _mix(alpha, first, second)


@shake_given.defjvp
def _derivative(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
    alpha, beta, first, second = primals
    return shake_given(alpha, beta, first, second), _mix(beta, tangents[2], tangents[3])


def _mix(weight: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
    return weight * first + (1 - weight) * second


def shake(
    key: jax.Array,
    first: jax.Array,
    second: jax.Array,
    forward: Forward = "shake",
    backward: Backward = "shake",
    *,
    per_example: bool = True,
) -> jax.Array:
    """Return `shake_given` with weights drawn uniformly from `key`.

    Args:
      key: the key for the batch.
      first: `[N, ...]`, one branch.
      second: `[N, ...]`, the other branch.
      forward: the forward weight; "even" is 1/2.
      backward: the backward weight; "keep" is the forward weight, "even" is 1/2.
      per_example: whether each example has weights of its own ("Image" in the paper); otherwise the batch shares them.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> y = jaxtrain.nn.shake(jax.random.key(0), jnp.zeros((3, 1)), jnp.ones((3, 1)))
      >>> print(y[:, 0].round(2))
      [0.71999997 0.9        0.77      ]
    """
    ones = (1,) * (first.ndim - 1)
    shape = (first.shape[0] if per_example else 1, *ones)
    forward_key, backward_key = jax.random.split(key)

    def draw(key: jax.Array) -> jax.Array:
        if per_example:
            return draw_per_example(lambda key: jax.random.uniform(key, ones, first.dtype), key, first)
        return jax.random.uniform(key, shape, first.dtype)

    even = jnp.full(shape, 0.5, first.dtype)
    alpha = even if forward == "even" else draw(forward_key)
    beta = {"shake": lambda: draw(backward_key), "keep": lambda: alpha, "even": lambda: even}[backward]()
    return shake_given(alpha, beta, first, second)


class ShakeShake(nn.Module):
    """A random mix of two branches in training, and their mean in evaluation; random stream "dropout".

    Attributes:
      train: whether this is training.
      forward: the forward weight: "shake" (random) or "even" (1/2).
      backward: the backward weight: "shake" (random), "keep" (the forward weight) or "even" (1/2).
      per_example: whether each example has weights of its own; the paper's best result is shake-shake with them.

    Example:
      >>> import jax.numpy as jnp, jaxtrain
      >>> jaxtrain.nn.ShakeShake(train=False).apply({}, jnp.zeros((1, 2)), jnp.ones((1, 2))).tolist()
      [[0.5, 0.5]]
    """

    train: bool
    forward: Forward = "shake"
    backward: Backward = "shake"
    per_example: bool = True

    @nn.compact
    def __call__(self, first: jax.Array, second: jax.Array) -> jax.Array:
        """Return the mix of two branches `[N, ...]`, of the same shape and dtype."""
        if not self.train:
            return 0.5 * first + 0.5 * second
        key = self.make_rng("dropout")
        return shake(key, first, second, self.forward, self.backward, per_example=self.per_example)
