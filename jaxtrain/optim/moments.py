"""Running means of gradients and of their squares, and quotients by their roots.

Hyperparameters may be arrays (`optax.inject_hyperparams`); they are cast to the dtype of each leaf.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxtrain.optim.chain import cast_like


def running_mean(decay: float, means: Any, values: Any) -> Any:
    """Return decay * mean + (1 - decay) * value for each leaf."""
    return jax.tree.map(lambda m, x: cast_like(decay, x) * m + cast_like(1 - decay, x) * x, means, values)


def zeros_like(tree: Any) -> Any:
    """Return zeros with the shapes and dtypes of `tree`, in new buffers: a step may donate its state."""
    return jax.tree.map(jnp.zeros_like, tree)


class SquaresState(NamedTuple):
    """State with sums or running means of squared gradients, like the parameters."""

    squares: Any


def square_leaves(tree: Any) -> Any:
    """Return the square of each element, leaf by leaf."""
    return jax.tree.map(jnp.square, tree)


def divide_by_sqrt(numerator: Any, squares: Any, eps: float, inside: bool = False) -> Any:
    """Return numerator / (sqrt(squares) + eps), or numerator / sqrt(squares + eps) with `inside`."""

    def quotient(n: jax.Array, s: jax.Array) -> jax.Array:
        e = cast_like(eps, s)
        return n / jnp.sqrt(s + e) if inside else n / (jnp.sqrt(s) + e)

    return jax.tree.map(quotient, numerator, squares)
