"""Folding of batch normalization into the convolution or dense layer before it, for inference.

A layer y = W x + b and its normalization g (y - m) / sqrt(v + e) + c are together one linear map, with kernel
g / sqrt(v + e) W and bias g / sqrt(v + e) (b - m) + c. The normalization then costs nothing (Ioffe & Szegedy 2015,
section 3.1).
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
"""Module names, from the outermost to the innermost."""


@dataclasses.dataclass(frozen=True)
class FoldedModel:
    """A model that skips its folded normalizations and adds their biases in the layers before them.

    Attributes:
      model: the original model.
      pairs: the paths `(layer, normalization)` of each folded pair.
    """

    model: nn.Module
    pairs: tuple[tuple[Path, Path], ...]

    def apply(self, variables: Mapping[str, Any], images: jax.Array, *, train: bool = False) -> Any:
        """Apply the model with folded `variables`.

        Raises:
          ValueError: `train` is true; a folded model has no batch statistics to train with.
        """
        if train:
            raise ValueError(
                "a model with folded normalization is for inference only; train the original model instead"
            )
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
    """Fold each batch normalization into the convolution or dense layer before it.

    A pair is folded if the normalization is the only consumer of the layer's output. Pairs are found by tracing the
    model's calls, not by names. A normalization that comes first in its block, as in pre-activation nets, is not
    folded.

    Args:
      model: a Linen module, `(images, train=False)`.
      variables: the model's parameters and batch statistics.
      images: an input, or its shape and dtype; its values are not used.

    Returns:
      The folded model and its variables, which belong together.

    Example:
      >>> import flax, jax, jax.numpy as jnp, jaxtrain
      >>> class Net(flax.linen.Module):
      ...     @flax.linen.compact
      ...     def __call__(self, images, *, train):
      ...         return jaxtrain.nn.BatchNorm(train, name="norm")(flax.linen.Dense(2, name="fc")(images))
      >>> images = jnp.ones((4, 3))
      >>> variables = Net().init(jax.random.key(0), images, train=False)
      >>> model, folded = jaxtrain.nn.fold_batch_norm(Net(), variables, images)
      >>> sorted(variables["params"]), sorted(folded["params"])
      (['fc', 'norm'], ['fc'])
      >>> bool(jnp.allclose(model.apply(folded, images), Net().apply(variables, images, train=False)))
      True
    """
    norms = _find_norms(model, variables, images)
    params = traverse_util.flatten_dict(dict(variables["params"]))
    stats = traverse_util.flatten_dict(dict(variables.get(BATCH_STATS, {})))
    for layer, (norm, epsilon) in norms.items():
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
    return FoldedModel(model, tuple((layer, norm) for layer, (norm, _) in norms.items())), folded


def _find_norms(model: nn.Module, variables: Mapping[str, Any], images: Any) -> dict[Path, tuple[Path, float]]:
    """Return the path and epsilon of the normalization after each layer whose output nothing else uses."""
    outputs: dict[int, tuple[Path, Any]] = {}  # by id; holds the output too, so that its id is not reused
    pairs: dict[Path, tuple[Path, float]] = {}

    def pair(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        module: Any = context.module
        if (
            context.method_name == "__call__"
            and isinstance(module, BatchNorm | nn.BatchNorm)
            and id(args[0]) in outputs
        ):
            pairs[outputs[id(args[0])][0]] = (module.path, module.epsilon)
            return jnp.zeros_like(args[0])  # so that the layer reaches the output only past the normalization
        result = call(*args, **kwargs)
        if context.method_name == "__call__" and isinstance(module, nn.Conv | nn.Dense):
            outputs[id(result)] = (module.path, result)
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
