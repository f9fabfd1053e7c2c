"""What the precision of a config means for a run: what its model computes in, and how products are made."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax

from jaxtrain.config import Config, ModelSpec
from jaxtrain.errors import ConfigError

P = ParamSpec("P")
R = TypeVar("R")

_KEPT = "float32"


def model_spec(config: Config) -> ModelSpec:
    """The model of a config, computing in what its precision says.

    Raises:
      ConfigError: where the model's own options say another thing.
    """
    model, policy = config.model, config.precision.policy
    if policy == _KEPT:
        return model
    computes, keeps = model.options.get("dtype"), model.options.get("param_dtype")
    if computes is None:
        raise ConfigError(f"{model.name} has no option dtype, and computes in what it computes in", "precision.policy")
    if computes not in (_KEPT, policy):
        raise ConfigError(
            f"the policy is to compute in {policy}, and the model's own option says dtype={computes}; leave one out",
            "precision.policy",
        )
    if keeps != _KEPT:
        raise ConfigError(
            f"the policy {policy} keeps parameters in float32, and the model's own option says param_dtype={keeps}; "
            f"use model.dtype={policy} in the place of the policy, or leave model.param_dtype out",
            "precision.policy",
        )
    return model.replace(dtype=policy)


def at_matmul_precision(function: Callable[P, R], config: Config) -> Callable[P, R]:
    """`function`, with what it traces multiplying float32 as `config.precision.matmul` says; no global setting."""
    level: Any = config.precision.matmul
    if level == "default":
        return function

    @functools.wraps(function)
    def at_level(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.default_matmul_precision(level):
            return function(*args, **kwargs)

    return at_level
