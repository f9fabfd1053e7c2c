"""Batch normalization folded into the convolution or dense layer before it, for inference (Ioffe & Szegedy 2015, 3.1).

What a layer gives, y = W x + b, and its normalization, g (y - m) / sqrt(v + e) + c, are one linear map: the kernel
g / sqrt(v + e) W and the bias g / sqrt(v + e) (b - m) + c. The normalization then costs nothing.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import traverse_util
from jax.extend import core

from jaxtrain.nn.normalization import BATCH_STATS, BatchNorm

Path = tuple[str, ...]
"""Names of modules, from the outermost."""


@dataclasses.dataclass(frozen=True)
class FoldedModel:
    """A model whose folded normalizations do nothing, and whose layers before them add a bias that is theirs now.

    Attributes:
      model: as it was.
      pairs: `(layer, normalization)` of each that is folded.
    """

    model: nn.Module
    pairs: tuple[tuple[Path, Path], ...]

    def apply(self, variables: Mapping[str, Any], images: jax.Array, *, train: bool = False) -> Any:
        """As the model's own; `variables` are folded ones.

        Raises:
          ValueError: in training, for which there are no statistics.
        """
        if train:
            raise ValueError("a model with folded normalization is for inference; train the one that it was made of")
        layers, norms = ({pair[i] for pair in self.pairs} for i in (0, 1))

        def intercept(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
            path = context.module.path
            if context.method_name != "__call__" or path not in layers | norms:
                return call(*args, **kwargs)
            if path in norms:
                return args[0]
            y = call(*args, **kwargs)
            if context.module.use_bias:
                return y
            bias: jax.Array = context.module.get_variable("params", "bias")
            return y + bias.astype(y.dtype).reshape((1,) * (y.ndim - 1) + (-1,))

        with nn.intercept_methods(intercept):
            return self.model.apply(variables, images, train=False)


def fold_batch_norm(model: nn.Module, variables: Mapping[str, Any], images: Any) -> tuple[FoldedModel, dict[str, Any]]:
    """Folds every batch normalization that follows a convolution or dense layer and alone sees what that gives.

    It looks at the model's calls, not at names; a normalization that is first in its block, as in pre-activation nets,
    stays.

    Args:
      model: a Linen module, `(images, train=False)`.
      variables: its parameters and batch statistics.
      images: an input, or its shape and dtype; nothing is computed of it.

    Returns:
      The model and the variables without the normalizations; both to be used together.
    """
    found = _normalized(model, variables, images)
    params = traverse_util.flatten_dict(dict(variables["params"]))
    stats = traverse_util.flatten_dict(dict(variables.get(BATCH_STATS, {})))
    for layer, (norm, epsilon) in found.items():
        mean, var = stats.pop((*norm, "mean")), stats.pop((*norm, "var"))
        factor = params.pop((*norm, "scale"), jnp.ones_like(var)) / jnp.sqrt(var + epsilon)
        kernel = params[(*layer, "kernel")]
        bias = params.get((*layer, "bias"), jnp.zeros_like(mean))
        params[(*layer, "kernel")] = kernel * factor.reshape((1,) * (kernel.ndim - 1) + (-1,)).astype(kernel.dtype)
        shift = params.pop((*norm, "bias"), jnp.zeros_like(mean))
        params[(*layer, "bias")] = ((bias - mean) * factor + shift).astype(kernel.dtype)
    others = {k: v for k, v in variables.items() if k not in ("params", BATCH_STATS)}
    folded = {**others, "params": traverse_util.unflatten_dict(params)}
    if stats:
        folded[BATCH_STATS] = traverse_util.unflatten_dict(stats)
    return FoldedModel(model, tuple((layer, norm) for layer, (norm, _) in found.items())), folded


def _normalized(model: nn.Module, variables: Mapping[str, Any], images: Any) -> dict[Path, tuple[Path, float]]:
    """For each layer that only a normalization sees: its path and epsilon."""
    made: dict[int, tuple[Path, Any]] = {}  # the output is kept, so that its id stays its own
    pairs: dict[Path, tuple[Path, float]] = {}

    def pair(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        module: Any = context.module
        if context.method_name == "__call__" and isinstance(module, BatchNorm | nn.BatchNorm) and id(args[0]) in made:
            pairs[made[id(args[0])][0]] = (module.path, module.epsilon)
            return jnp.zeros_like(args[0])  # so that what reaches the output does so past the normalization
        result = call(*args, **kwargs)
        if context.method_name == "__call__" and isinstance(module, nn.Conv | nn.Dense):
            made[id(result)] = (module.path, result)
        return result

    def run(params: Any, images: Any) -> Any:
        with nn.intercept_methods(pair):
            return model.apply({**variables, "params": params}, images, train=False)

    leaves = traverse_util.flatten_dict(dict(variables["params"]))
    jaxpr = jax.make_jaxpr(lambda flat, x: run(traverse_util.unflatten_dict(flat), x))(leaves, images).jaxpr
    needed = set(jaxpr.outvars)
    for eqn in reversed(jaxpr.eqns):
        if any(v in needed for v in eqn.outvars):
            needed.update(v for v in eqn.invars if not isinstance(v, core.Literal))
    used = {path[:-1] for path, v in zip(sorted(leaves), jaxpr.invars, strict=False) if v in needed}
    return {layer: norm for layer, norm in pairs.items() if layer not in used}
