"""Layers in the order in which a model calls them, with their inputs, and replacement of their parameters in one pass.

The layers are found by intercepting the model's calls, not by names, so any Linen module `(images, *, train)` works.
When a layer is called, the layers before it already have their new parameters.
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
"""Modules with a kernel `[..., inputs, outputs]`, including their subclasses."""
_REPORT = "layer_calls"
NORMALIZATIONS = (BatchNorm, nn.BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm, nn.RMSNorm)
"""Modules that normalize their input."""
ROOT_NAME = "the model"
"""The name of a layer that is the model itself."""
VARIES = "varies"
"""The name of the measurement whether a layer's outputs vary over examples and positions."""


@dataclasses.dataclass(frozen=True)
class LayerCall:
    """The first call of a layer.

    Attributes:
      module: the layer, detached from its model.
      index: the number of layers that were called before it.
      params: the layer's parameters: `kernel`, and `bias` if it has one.
      inputs: the layer's inputs.
    """

    module: Any
    index: int
    params: Mapping[str, jax.Array]
    inputs: jax.Array

    def outputs(self, params: Mapping[str, jax.Array]) -> jax.Array:
        """Return the layer's outputs with the parameters `params`."""
        outputs: jax.Array = self.module.apply({"params": dict(params)}, self.inputs)
        return outputs

    @property
    def groups(self) -> int:
        """The number of groups of a grouped convolution; otherwise 1."""
        return getattr(self.module, "feature_group_count", 1)

    @property
    def feature_axes(self) -> int:
        """The number of feature axes: the last axes of the kernel, and the last axes of the outputs."""
        features = self.module.features
        return 1 if isinstance(features, int) else len(features)

    def matrix_shape(self) -> tuple[int, int]:
        """Return the numbers of inputs and outputs of the kernel as a matrix.

        The inputs include the positions of the window, and are those of one group of a grouped convolution.
        """
        kernel = self.params["kernel"]
        outputs = math.prod(kernel.shape[kernel.ndim - self.feature_axes :])
        return kernel.size // outputs, outputs

    def moments(self, outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return each feature's mean and standard deviation over examples and positions, in float32 or wider."""
        wide = outputs.astype(np.promote_types(outputs.dtype, np.float32))
        axes = tuple(range(outputs.ndim - self.feature_axes))
        mean = wide.mean(axis=axes)
        return mean, jnp.sqrt(jnp.square(wide - jnp.expand_dims(mean, axes)).mean(axis=axes))

    def replace_kernel(self, kernel: jax.Array, bias: jax.Array | None = None) -> dict[str, jax.Array]:
        """Return the parameters with this kernel, and this bias (0 for None) if the layer has one; keep the dtypes."""
        params = {**self.params, "kernel": kernel.astype(self.params["kernel"].dtype)}
        if "bias" in params:
            old = params["bias"]
            params["bias"] = jnp.zeros_like(old) if bias is None else bias.astype(old.dtype)
        return params


Rule = Callable[[LayerCall], tuple[Mapping[str, jax.Array], jax.Array, Mapping[str, jax.Array]]]
"""A function from a layer to its new parameters, its outputs with them, and measurements by name, of fixed shapes."""


def rewrite_layers(
    model: nn.Module, variables: Mapping[str, Any], images: jax.Array, rule: Rule
) -> tuple[dict[str, Any], dict[str, dict[str, jax.Array]]]:
    """Apply the model in evaluation mode and replace each layer's parameters at its first call.

    Args:
      model: a Linen module, `(images, *, train)`.
      variables: the model's variables, complete.
      images: a batch.
      rule: the function that computes a layer's new parameters.

    Returns:
      The variables with the new parameters of the layers that were called, and the rule's measurements by layer
      ("block/conv1"), in the order of calls.
    """
    paths: list[tuple[str, ...]] = []
    inside = False

    def intercept(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        nonlocal inside
        module: Any = context.module
        if inside or not is_layer(context) or module.path in paths:
            return call(*args, **kwargs)
        inputs: jax.Array = next(iter((*args, *kwargs.values())))
        layer = LayerCall(module.clone(parent=None), len(paths), dict(module.variables["params"]), inputs)
        paths.append(module.path)
        inside = True
        try:
            params, outputs, measurements = rule(layer)
        finally:
            inside = False
        for name, value in params.items():  # via the module, so that they leave transformations such as nn.remat
            module.put_variable("params", name, value)
        for name, value in measurements.items():
            module.put_variable(_REPORT, name, value)
        return outputs

    with nn.intercept_methods(intercept):
        _, changed = model.apply(dict(variables), images, train=False, mutable=["params", _REPORT])
    values = traverse_util.flatten_dict(changed.get(_REPORT, {}))
    report = {
        "/".join(path) or ROOT_NAME: {key[-1]: value for key, value in values.items() if key[:-1] == path}
        for path in paths
    }
    return {**variables, "params": changed["params"]}, report


def layer_keys(key: jax.Array, variables: Mapping[str, Any], each: int = 1) -> jax.Array:
    """Return `each` keys for every layer, to be indexed by `LayerCall.index`: key[layers, each].

    One split makes all keys, because compiling each further split takes a fraction of a second.
    """
    kernels = sum(path[-1] == "kernel" for path in traverse_util.flatten_dict(dict(variables["params"])))
    return jax.random.split(key, (max(kernels, 1), each))


def is_layer(context: nn.module.InterceptorContext) -> bool:
    """Return whether this is the call of a layer."""
    module = context.module
    return context.method_name == "__call__" and isinstance(module, LAYERS) and not getattr(module, "batch_dims", ())


def is_varying(layer: LayerCall, outputs: jax.Array) -> jax.Array:
    """Return bool[], whether any feature varies over examples or positions by more than rounding errors."""
    mean, stddev = layer.moments(outputs)
    return stddev.max() > 1e-5 * jnp.abs(mean).max()


def is_normalization(context: nn.module.InterceptorContext) -> bool:
    """Return whether this is the call of a normalization."""
    return context.method_name == "__call__" and isinstance(context.module, NORMALIZATIONS)


def check_batch(images: Any, method: str) -> None:
    """Raise `ValueError` for a batch of fewer than two examples."""
    if images.shape[0] < 2:
        raise ValueError(
            f"{method} measures how outputs vary over a batch, but this one has {images.shape[0]} example; give a few "
            "dozen examples"
        )


def check_report(model: nn.Module, report: Mapping[str, Mapping[str, Any]], method: str) -> None:
    """Raise `ValueError` for a model without layers, and for layers that do not vary; jit hides the latter."""
    if not report:
        raise ValueError(f"{method} has nothing to initialize: {type(model).__name__} calls no nn.Conv or nn.Dense")
    for name, measurements in report.items():
        value = measurements[VARIES]
        if not isinstance(value, jax.core.Tracer) and not bool(value.all()):
            raise ValueError(
                f"{method}: the output of the layer {name} does not vary over the batch, so it cannot be scaled: give "
                "more and different examples, or check whether the layers before it output only zeros"
            )
