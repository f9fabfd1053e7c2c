"""What `precision` means for a run: the dtype its model computes in, and how float32 matrices are multiplied."""

import functools
from collections.abc import Callable
from typing import Any, Literal, ParamSpec, TypeVar

import jax

from jaxtrain.config import ModelSpec
from jaxtrain.errors import ConfigError

P = ParamSpec("P")
R = TypeVar("R")

Policy = Literal["float32", "bfloat16", "float16"]
_KEPT = "float32"


def with_precision(model: ModelSpec, policy: Policy) -> ModelSpec:
    """Return the model of a config, computing in what `precision.policy` says.

    Raises:
      ConfigError: the model's own options say another thing.
    """
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


def at_matmul_precision(function: Callable[P, R], level: Any) -> Callable[P, R]:
    """Have `function` multiply float32 matrices as `precision.matmul` says wherever it is traced; no global setting."""
    if level == "default":
        return function

    @functools.wraps(function)
    def at_level(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.default_matmul_precision(level):
            return function(*args, **kwargs)

    return at_level
