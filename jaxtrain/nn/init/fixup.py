"""Fixup initialization: residual networks without normalization (Zhang, Dauphin & Ma 2019, arXiv:1901.09321)."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import traverse_util

from jaxtrain.nn.init.initializers import Initializer, he
from jaxtrain.nn.layer_calls import is_layer, is_normalization


def fixup_scale(blocks: int, layers: int) -> float:
    """L^(-1 / (2 m - 2)): what the weights of L residual branches of m layers are multiplied by.

    1 for branches of one layer, which is 0 anyway.
    """
    return blocks ** (-1 / (2 * layers - 2)) if layers > 1 else 1.0


def fixup(
    model: nn.Module,
    key: jax.Array,
    images: Any,
    *,
    branch: str = r"(.*stage\d+_block\d+)/conv\d+",
    head: str = r"(.*/)?logits",
    kernel_init: Initializer | None = None,
) -> dict[str, Any]:
    """Variables with which a residual net trains without normalization (section 3 of the paper).

    1. The classifier, and the last layer of each residual branch, are 0.
    2. Other layers are drawn by He's rule; those inside a branch are multiplied by L^(-1 / (2 m - 2)), for L branches
       in the net and m layers in the branch.
    3. Biases are 0 and multipliers 1, as the model has them; `jaxtrain.models.fixup_block` has those of the paper.

    Nothing is computed of the images but their shape.

    Args:
      model: a Linen module, `(images, *, train)`, whose residual branches begin as a sum with their input.
      key: of random numbers.
      images: f[N, ...], or its shape and dtype.
      branch: regex for the whole path of a branch's layer; its first group names the branch. The default is for
        the residual nets of `jaxtrain.models`.
      head: regex for the whole path of the classifier.
      kernel_init: of all kernels, before they are scaled; He et al. 2015 with the fan of the inputs for None.

    Returns:
      All variables of the model.

    Raises:
      ValueError: for a model in which no layer is a branch's or none is the classifier, or that has a normalization.
    """
    shape = jax.ShapeDtypeStruct(images.shape, images.dtype)
    names = _layers(model, key, shape)
    branches: dict[str, list[str]] = {}
    for name in names:
        if found := re.fullmatch(branch, name):
            branches.setdefault(found.group(1), []).append(name)
    heads = [name for name in names if re.fullmatch(head, name)]
    for what, pattern, there in (("residual branch", branch, branches), ("classifier", head, heads)):
        if not there:
            raise ValueError(
                f"fixup found no {what}: {pattern!r} is the path of none of the layers {', '.join(names[:6])}, ... "
                f"of {type(model).__name__}"
            )
    scales = dict.fromkeys(heads, 0.0)
    for layers in branches.values():
        inner = fixup_scale(len(branches), len(layers))
        scales |= {name: 0.0 if name == layers[-1] else inner for name in layers}

    def run(key: jax.Array) -> dict[str, Any]:
        init_key, kernel_key = jax.random.split(key)
        variables = model.init(init_key, jnp.zeros(shape.shape, shape.dtype), train=False)
        return _drawn(variables, kernel_key, names, scales, kernel_init or he())

    return dict(jax.jit(run)(key))


def _layers(model: nn.Module, key: jax.Array, images: Any) -> list[str]:
    """Paths of the layers in the order of calls; refuses normalization."""
    names: list[str] = []

    def intercept(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        name = "/".join(context.module.path)
        if is_normalization(context):
            raise ValueError(
                f"fixup is for nets without normalization, and {type(model).__name__} has {name}; make it with "
                "norm='none'"
            )
        if is_layer(context) and name not in names:
            names.append(name)
        return call(*args, **kwargs)

    with nn.intercept_methods(intercept):
        jax.eval_shape(lambda key, images: model.init(key, images, train=False), key, images)
    return names


def _drawn(
    variables: Mapping[str, Any],
    key: jax.Array,
    names: list[str],
    scales: Mapping[str, float],
    kernel_init: Initializer,
) -> dict[str, Any]:
    params = traverse_util.flatten_dict(dict(variables["params"]), sep="/")
    for name, layer_key in zip(names, jax.random.split(key, len(names)), strict=True):
        kernel = params[f"{name}/kernel"]
        params[f"{name}/kernel"] = scales.get(name, 1.0) * kernel_init(layer_key, kernel.shape, kernel.dtype)
        if f"{name}/bias" in params:
            params[f"{name}/bias"] = jnp.zeros_like(params[f"{name}/bias"])
    return {**variables, "params": traverse_util.unflatten_dict(params, sep="/")}
