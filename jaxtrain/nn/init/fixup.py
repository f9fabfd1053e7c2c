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
    """Return L^(-1 / (2 m - 2)), the factor of the weights in L residual branches of m layers.

    It is 1 for branches of one layer, because that layer is 0 in any case.

    Example:
      >>> import jaxtrain
      >>> jaxtrain.nn.fixup_scale(blocks=16, layers=3)
      0.5
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
    r"""Return variables with which a residual net trains without normalization (section 3 of the paper).

    1. The classifier and the last layer of each residual branch are 0.
    2. Other layers have He initialization. Those inside a branch are multiplied by L^(-1 / (2 m - 2)) for L branches in
       the net and m layers in the branch.
    3. Biases are 0 and multipliers 1, as the model initializes them. `jaxtrain.models.fixup_block` has the paper's
       biases and multipliers.

    Only the shape and dtype of the images are used.

    Args:
      model: a Linen module, `(images, *, train)`, whose residual branches are added to their input.
      key: the key for the random kernels.
      images: f[N, ...], or its shape and dtype.
      branch: a regular expression for the full path of a layer in a branch; its first group is the branch's name. The
        default matches the residual nets of `jaxtrain.models`.
      head: a regular expression for the full path of the classifier.
      kernel_init: the initializer of all kernels before scaling; None for He et al. 2015 with fan_in.

    Returns:
      All variables of the model.

    Raises:
      ValueError: no layer matches `branch` or `head`, or the model has a normalization.

    Example:
      >>> import flax, jax, jax.numpy as jnp, jaxtrain
      >>> class Net(flax.linen.Module):
      ...     @flax.linen.compact
      ...     def __call__(self, x, *, train):
      ...         y = flax.linen.relu(flax.linen.Dense(4, name="block1_fc1")(x))
      ...         return flax.linen.Dense(3, name="logits")(x + flax.linen.Dense(4, name="block1_fc2")(y))
      >>> variables = jaxtrain.nn.fixup(Net(), jax.random.key(0), jnp.ones((1, 4)), branch=r"(block\d)_fc\d")
      >>> {name: bool(layer["kernel"].any()) for name, layer in variables["params"].items()}
      {'block1_fc1': True, 'block1_fc2': False, 'logits': False}
    """
    shape = jax.ShapeDtypeStruct(images.shape, images.dtype)
    names = _layers(model, key, shape)
    branches: dict[str, list[str]] = {}
    for name in names:
        if match := re.fullmatch(branch, name):
            branches.setdefault(match.group(1), []).append(name)
    heads = [name for name in names if re.fullmatch(head, name)]
    for part, pattern, matches in (("residual branch", branch, branches), ("classifier", head, heads)):
        if not matches:
            raise ValueError(
                f"fixup found no {part}: {pattern!r} does not match any of the layers {', '.join(names[:6])}, ... "
                f"of {type(model).__name__}"
            )
    scales = dict.fromkeys(heads, 0.0)
    for layers in branches.values():
        inner = fixup_scale(len(branches), len(layers))
        scales |= {name: 0.0 if name == layers[-1] else inner for name in layers}

    def run(key: jax.Array) -> dict[str, Any]:
        init_key, kernel_key = jax.random.split(key)
        variables = model.init(init_key, jnp.zeros(shape.shape, shape.dtype), train=False)
        return _draw_kernels(variables, kernel_key, names, scales, kernel_init or he())

    return dict(jax.jit(run)(key))


def _layers(model: nn.Module, key: jax.Array, images: Any) -> list[str]:
    """Return the paths of the layers in the order of calls; raise `ValueError` for a normalization."""
    names: list[str] = []

    def intercept(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        name = "/".join(context.module.path)
        if is_normalization(context):
            raise ValueError(
                f"fixup is for nets without normalization, but {type(model).__name__} has {name}; build the model with "
                "norm='none'"
            )
        if is_layer(context) and name not in names:
            names.append(name)
        return call(*args, **kwargs)

    with nn.intercept_methods(intercept):
        jax.eval_shape(lambda key, images: model.init(key, images, train=False), key, images)
    return names


def _draw_kernels(
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
