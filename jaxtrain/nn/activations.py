"""Activation functions by name, for the `activation` option of models."""

from collections.abc import Callable
from typing import Literal

import jax
from flax import linen as nn

Activation = Literal["relu", "tanh", "sigmoid"]

_FUNCTIONS: dict[str, Callable[[jax.Array], jax.Array]] = {"relu": nn.relu, "tanh": nn.tanh, "sigmoid": nn.sigmoid}


def activation(name: str) -> Callable[[jax.Array], jax.Array]:
    """The elementwise function called `name`."""
    return _FUNCTIONS[name]
