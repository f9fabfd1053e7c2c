"""Penalties on the size of parameters, added to the loss: factories of functions `params -> f[]`.

They look at the parameters whose path a regex finds, kernels by default: to shrink a bias, or the scale of a
normalization, regularizes nothing. A regex that is malformed or finds no parameter is a `ConfigError`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxtrain.annotations import NonNegativeFloat
from jaxtrain.errors import ConfigError
from jaxtrain.optim.param_rules import compiled, path_name
from jaxtrain.optim.trees import widest

Penalty = Callable[[Any], jax.Array]


def l1(strength: NonNegativeFloat, *, parameters: str = "kernel") -> Penalty:
    """`strength * sum |w|` (Tibshirani 1996); its gradient at 0 is taken as 0.

    Args:
      strength: factor of the sum.
      parameters: regex over paths; the parameters in whose path it is found are penalized.
    """
    total = _sum(_absolute, parameters)
    return lambda params: strength * total(params)


def l2(strength: NonNegativeFloat, *, parameters: str = "kernel") -> Penalty:
    """`strength * sum w^2` (Hoerl & Kennard 1970), without a half: its gradient is `2 * strength * w`.

    So to an optimizer that adds weight decay to the gradient, as `sgd` does, it is a weight decay of `2 * strength`.
    Decoupled weight decay, as that of `adamw`, is something else (Loshchilov & Hutter 2019).

    Args:
      strength: factor of the sum; half the weight decay.
      parameters: regex over paths; the parameters in whose path it is found are penalized.
    """
    total = _sum(jnp.square, parameters)
    return lambda params: strength * total(params)


def elastic_net(l1: NonNegativeFloat, l2: NonNegativeFloat, *, parameters: str = "kernel") -> Penalty:
    """`l1 * sum |w| + l2 * sum w^2` (Zou & Hastie 2005, equation 3); the gradient of |w| at 0 is taken as 0.

    Args:
      l1: factor of the sum of absolute values.
      l2: factor of the sum of squares.
      parameters: regex over paths; the parameters in whose path it is found are penalized.
    """
    return _sum(lambda w: l1 * _absolute(w) + l2 * jnp.square(w), parameters)


def _absolute(w: jax.Array) -> jax.Array:
    """|w|; the derivative of `jnp.abs` at 0 is 1, which would move parameters that the penalty has set to 0."""
    return w * jnp.sign(w)


def _sum(of: Callable[[jax.Array], jax.Array], parameters: str) -> Penalty:
    """The sum of a function over the parameters that the regex finds, in the widest of their dtypes and float32."""
    pattern = compiled(parameters, "penalties")

    def total(params: Any) -> jax.Array:
        leaves = [(path_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)]
        found = [leaf for name, leaf in leaves if pattern.search(name)]
        if not found:
            names = ", ".join(name for name, _ in leaves[:4])
            raise ConfigError(f"{parameters!r} finds no parameter; they are called {names}, ...", "penalties")
        wide = widest(found)
        return jnp.stack([of(leaf.astype(wide)).sum() for leaf in found]).sum()

    return total
