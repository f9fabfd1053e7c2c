"""Penalties on the size of parameters, added to the loss: factories of functions `params -> f[]`.

They look at the parameters whose path a regex finds, kernels by default: to shrink a bias or a scale of a
normalization regularizes nothing.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxtrain.config.annotations import NonNegativeFloat
from jaxtrain.errors import ConfigError
from jaxtrain.optim.rules import compiled, path_name
from jaxtrain.optim.trees import widest

Penalty = Callable[[Any], jax.Array]


def l1(strength: NonNegativeFloat, *, parameters: str = "kernel") -> Penalty:
    """`strength * sum |w|` (Tibshirani 1996); its gradient at 0 is taken as 0.

    Args:
      strength: factor of the sum.
      parameters: regex over paths; those in which it is found are penalized.
    """
    return lambda params: strength * _sum(jnp.abs, params, parameters)


def l2(strength: NonNegativeFloat, *, parameters: str = "kernel") -> Penalty:
    """`strength * sum w^2`, whose gradient is `2 * strength * w`.

    So it does to plain gradient descent what a weight decay of `2 * strength` does. With momentum or adaptive rules it
    is still the L2 penalty, which is not decoupled decay (Loshchilov & Hutter 2019).

    Args:
      strength: factor of the sum; half the weight decay.
      parameters: regex over paths.
    """
    return lambda params: strength * _sum(jnp.square, params, parameters)


def elastic_net(l1: NonNegativeFloat, l2: NonNegativeFloat, *, parameters: str = "kernel") -> Penalty:
    """`l2 * sum w^2 + l1 * sum |w|` (Zou & Hastie 2005, equation 3).

    Args:
      l1: factor of the sum of absolute values.
      l2: factor of the sum of squares.
      parameters: regex over paths.
    """
    return lambda params: _sum(lambda w: l2 * jnp.square(w) + l1 * jnp.abs(w), params, parameters)


def _sum(of: Callable[[jax.Array], jax.Array], params: Any, parameters: str) -> jax.Array:
    """The sum of a function over the parameters that the regex finds, in float32 or wider."""
    pattern = compiled(parameters, "penalties")
    leaves = [(path_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)]
    found = [leaf for name, leaf in leaves if pattern.search(name)]
    if not found:
        names = ", ".join(name for name, _ in leaves[:4])
        raise ConfigError(f"{parameters!r} finds no parameter; they are called {names}, ...", "penalties")
    wide = widest(found)
    return jnp.stack([of(leaf.astype(wide)).sum() for leaf in found]).sum()
