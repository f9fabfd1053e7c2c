"""Penalties on the size of parameters, added to the loss: factories of functions `params -> f[]`.

A penalty sums over the parameters in whose path a regex is found. The default is kernels: shrinking a bias, or the
scale of a normalization, does not regularize. A malformed regex, or one that finds no parameter, raises `ConfigError`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxtrain.annotations import NonNegativeFloat
from jaxtrain.errors import ConfigError
from jaxtrain.optim.param_rules import compile_regex, path_name
from jaxtrain.optim.trees import widest

Penalty = Callable[[Any], jax.Array]


def l1(strength: NonNegativeFloat, *, parameters: str = "kernel") -> Penalty:
    """Build the L1 penalty `strength * sum |w|` (Tibshirani 1996); its gradient at 0 is 0.

    Args:
      strength: the factor of the sum.
      parameters: a regex over paths; a parameter is penalized if the regex is found in its path.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxtrain.optim import penalties
      >>> params = {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([5.0, 5.0])}
      >>> round(float(penalties.l1(0.1)(params)), 3)
      0.3
    """
    total = _sum(_absolute, parameters)
    return lambda params: strength * total(params)


def l2(strength: NonNegativeFloat, *, parameters: str = "kernel") -> Penalty:
    """Build the L2 penalty `strength * sum w^2` (Hoerl & Kennard 1970), without a factor 1/2.

    Its gradient is `2 * strength * w`. For an optimizer that adds weight decay to the gradient, as `sgd` does, it
    equals a weight decay of `2 * strength`. Decoupled weight decay, as in `adamw`, is different (Loshchilov & Hutter
    2019).

    Args:
      strength: the factor of the sum; half the weight decay.
      parameters: a regex over paths; a parameter is penalized if the regex is found in its path.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxtrain.optim import penalties
      >>> params = {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([5.0, 5.0])}
      >>> round(float(penalties.l2(0.1)(params)), 3)
      0.5
    """
    total = _sum(jnp.square, parameters)
    return lambda params: strength * total(params)


def elastic_net(l1: NonNegativeFloat, l2: NonNegativeFloat, *, parameters: str = "kernel") -> Penalty:
    """Build the elastic net penalty `l1 * sum |w| + l2 * sum w^2` (Zou & Hastie 2005, equation 3).

    The gradient of |w| at 0 is 0.

    Args:
      l1: the factor of the sum of absolute values.
      l2: the factor of the sum of squares.
      parameters: a regex over paths; a parameter is penalized if the regex is found in its path.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxtrain.optim import penalties
      >>> params = {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([5.0, 5.0])}
      >>> round(float(penalties.elastic_net(0.1, 0.1)(params)), 3)
      0.8
    """
    return _sum(lambda w: l1 * _absolute(w) + l2 * jnp.square(w), parameters)


def _absolute(w: jax.Array) -> jax.Array:
    """Return |w| with the derivative 0 at 0.

    The derivative of `jnp.abs` at 0 is 1, which would move parameters that the penalty has set to 0.
    """
    return w * jnp.sign(w)


def _sum(function: Callable[[jax.Array], jax.Array], parameters: str) -> Penalty:
    """Return the sum of a function over the parameters that match, in the widest of their dtypes and float32."""
    pattern = compile_regex(parameters, "penalties")

    def total(params: Any) -> jax.Array:
        leaves = [(path_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)]
        matching = [leaf for name, leaf in leaves if pattern.search(name)]
        if not matching:
            names = ", ".join(name for name, _ in leaves[:4])
            raise ConfigError(f"{parameters!r} matches no parameter; parameters are {names}, ...", "penalties")
        wide = widest(matching)
        return jnp.stack([function(leaf.astype(wide)).sum() for leaf in matching]).sum()

    return total
