"""The `precision` settings of a run: the model's compute dtype, and the precision of float32 matrix multiplications."""

import functools
from collections.abc import Callable
from typing import Any, Literal, ParamSpec, TypeVar

import jax

from jaxtrain.config import ModelSpec
from jaxtrain.errors import ConfigError

P = ParamSpec("P")
R = TypeVar("R")

Policy = Literal["float32", "bfloat16", "float16"]
_PARAM_DTYPE = "float32"


def apply_precision_policy(model: ModelSpec, policy: Policy) -> ModelSpec:
    """Return the spec of the model with `dtype` set to the precision policy.

    Raises:
      ConfigError: the model has no option `dtype`, or its own options contradict the policy.
    """
    if policy == _PARAM_DTYPE:
        return model
    dtype, param_dtype = model.options.get("dtype"), model.options.get("param_dtype")
    if dtype is None:
        raise ConfigError(
            f"{model.name} has no option dtype, so its compute dtype cannot be set; use precision=float32",
            "precision.policy",
        )
    if dtype not in (_PARAM_DTYPE, policy):
        raise ConfigError(
            f"the policy is to compute in {policy}, but the model's own option is dtype={dtype}; leave one of them out",
            "precision.policy",
        )
    if param_dtype != _PARAM_DTYPE:
        raise ConfigError(
            f"the policy {policy} keeps parameters in float32, but the model's own option is "
            f"param_dtype={param_dtype}; use model.dtype={policy} instead of the policy, or leave model.param_dtype "
            "out",
            "precision.policy",
        )
    return model.replace(dtype=policy)


def apply_matmul_precision(function: Callable[P, R], level: Any) -> Callable[P, R]:
    """Wrap `function` so that it is traced with float32 matrix multiplications at `precision.matmul`.

    No global jax setting changes.
    """
    if level == "default":
        return function

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.default_matmul_precision(level):
            return function(*args, **kwargs)

    return call
