"""The layers of a model in the order of its calls, each seen with what it gets, and given new parameters on the way.

It looks at what a model calls, not at names, so it takes any Linen module `(images, *, train)`. One pass does for
all layers: when a layer is called, those before it have their new parameters already.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

from jaxtrain.nn.normalization import BatchNorm

LAYERS = (nn.Conv, nn.Dense, nn.DenseGeneral)
"""Modules with a kernel `[..., inputs, outputs]`, those derived from them among them."""
_REPORT = "layer_calls"
NORMALIZATIONS = (BatchNorm, nn.BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm, nn.RMSNorm)
"""Modules that normalize what they get."""
WHOLE = "the model"
"""What a layer is called that is the model itself."""
VARIES = "varies"
"""The measurement that says whether a layer's outputs differ by example or place."""


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer as it is called.

    Attributes:
      module: the layer, detached from its model.
      index: how many layers were called before it.
      params: its parameters: `kernel`, and `bias` where it has one.
      inputs: what it is called with.
    """

    module: Any
    index: int
    params: Mapping[str, jax.Array]
    inputs: jax.Array

    def outputs(self, params: Mapping[str, jax.Array]) -> jax.Array:
        """What it gives with other parameters."""
        outputs: jax.Array = self.module.apply({"params": dict(params)}, self.inputs)
        return outputs

    @property
    def groups(self) -> int:
        """Of a grouped convolution; else 1."""
        return getattr(self.module, "feature_group_count", 1)

    @property
    def feature_axes(self) -> int:
        """How many of the kernel's last axes are outputs; the layer's outputs end in as many."""
        features = self.module.features
        return 1 if isinstance(features, int) else len(features)

    def matrix(self) -> tuple[int, int]:
        """Inputs (the window's places counted, one group's where it has groups) and outputs."""
        kernel = self.params["kernel"]
        outputs = math.prod(kernel.shape[kernel.ndim - self.feature_axes :])
        return kernel.size // outputs, outputs

    def moments(self, outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and standard deviation of each feature over examples and places, in float32 at least."""
        wide = outputs.astype(np.promote_types(outputs.dtype, np.float32))
        axes = tuple(range(outputs.ndim - self.feature_axes))
        mean = wide.mean(axis=axes)
        return mean, jnp.sqrt(jnp.square(wide - jnp.expand_dims(mean, axes)).mean(axis=axes))

    def with_kernel(self, kernel: jax.Array, bias: jax.Array | None = None) -> dict[str, jax.Array]:
        """Its parameters with this kernel, and with this bias (0 for None) where it has one; dtypes stay."""
        params = {**self.params, "kernel": kernel.astype(self.params["kernel"].dtype)}
        if "bias" in params:
            old = params["bias"]
            params["bias"] = jnp.zeros_like(old) if bias is None else bias.astype(old.dtype)
        return params


Rule = Callable[[Layer], tuple[Mapping[str, jax.Array], jax.Array, Mapping[str, jax.Array]]]
"""New parameters of a layer, what it gives with them, and measurements by name, each of a fixed shape."""


def rewrite(
    model: nn.Module, variables: Mapping[str, Any], images: jax.Array, rule: Rule
) -> tuple[dict[str, Any], dict[str, dict[str, jax.Array]]]:
    """Applies the model, out of training, with `rule` deciding each layer's parameters at its first call.

    Args:
      model: a Linen module, `(images, *, train)`.
      variables: its own, complete.
      images: a batch.
      rule: what to do with a layer.

    Returns:
      The variables with new parameters of the layers that were called, and by layer ("block/conv1"), in the order of
      calls, what the rule measured.
    """
    paths: list[tuple[str, ...]] = []
    inside = False

    def intercept(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        nonlocal inside
        module: Any = context.module
        if inside or not is_layer(context) or module.path in paths:
            return call(*args, **kwargs)
        inputs: jax.Array = next(iter((*args, *kwargs.values())))
        layer = Layer(module.clone(parent=None), len(paths), dict(module.variables["params"]), inputs)
        paths.append(module.path)
        inside = True
        try:
            params, outputs, measured = rule(layer)
        finally:
            inside = False
        for name, value in params.items():  # through the module, so that they leave transformations such as nn.remat
            module.put_variable("params", name, value)
        for name, value in measured.items():
            module.put_variable(_REPORT, name, value)
        return outputs

    with nn.intercept_methods(intercept):
        _, changed = model.apply(dict(variables), images, train=False, mutable=["params", _REPORT])
    found = traverse_util.flatten_dict(changed.get(_REPORT, {}))
    report = {
        "/".join(path) or WHOLE: {key[-1]: value for key, value in found.items() if key[:-1] == path} for path in paths
    }
    return {**variables, "params": changed["params"]}, report


def layer_keys(key: jax.Array, variables: Mapping[str, Any], each: int = 1) -> jax.Array:
    """`each` keys for every layer that there can be, by its `index`: key[layers, each].

    They are made at once, since every split that is compiled costs a part of a second.
    """
    kernels = sum(path[-1] == "kernel" for path in traverse_util.flatten_dict(dict(variables["params"])))
    return jax.random.split(key, (max(kernels, 1), each))


def is_layer(context: nn.module.InterceptorContext) -> bool:
    """Whether this is the call of a layer."""
    module = context.module
    return context.method_name == "__call__" and isinstance(module, LAYERS) and not getattr(module, "batch_dims", ())


def varies(layer: Layer, outputs: jax.Array) -> jax.Array:
    """bool[]: whether some feature differs by example or place by more than rounding does."""
    mean, deviation = layer.moments(outputs)
    return deviation.max() > 1e-5 * jnp.abs(mean).max()


def is_normalization(context: nn.module.InterceptorContext) -> bool:
    """Whether this is the call of a normalization."""
    return context.method_name == "__call__" and isinstance(context.module, NORMALIZATIONS)


def check_batch(images: Any, method: str) -> None:
    """Refuses a batch of fewer than two examples."""
    if images.shape[0] < 2:
        raise ValueError(
            f"{method} measures how outputs vary over a batch, and this one has {images.shape[0]} example; give some "
            "dozens"
        )


def check_report(model: nn.Module, report: Mapping[str, Mapping[str, Any]], method: str) -> None:
    """Refuses a model without layers, and layers that do not vary; under jit the latter cannot be seen."""
    if not report:
        raise ValueError(f"{method} found nothing to initialize: {type(model).__name__} calls no nn.Conv or nn.Dense")
    for name, measured in report.items():
        value = measured[VARIES]
        if not isinstance(value, jax.core.Tracer) and not bool(value.all()):
            raise ValueError(
                f"the output of the layer {name} does not vary on the batch of {method}, so that it cannot be scaled: "
                "give more and different examples, or see whether the layers before it let anything through"
            )
