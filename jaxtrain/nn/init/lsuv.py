"""Layer-sequential unit-variance initialization, LSUV (Mishkin & Matas 2016, "All you need is a good init")."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxtrain.annotations import PositiveFloat, PositiveInt
from jaxtrain.nn.init.initializers import orthogonal
from jaxtrain.nn.layer_calls import VARIES, LayerCall, check_batch, check_report, is_varying, layer_keys, rewrite_layers

_VARIANCE = "variance"


def lsuv(
    model: nn.Module, key: jax.Array, images: Any, *, tolerance: PositiveFloat = 0.1, max_iterations: PositiveInt = 10
) -> dict[str, Any]:
    """Return variables with orthonormal kernels, scaled so that each layer's outputs have variance 1 on a batch.

    Algorithm 1 of the paper goes through the layers in the order of the model's calls. It divides each kernel by the
    standard deviation of the layer's outputs until their variance is 1 within the tolerance. Biases are 0. The model is
    called in evaluation mode. Each group of a grouped convolution is orthonormal on its own.

    Layers that the model does not call in evaluation (an auxiliary head), and parameters that belong to no layer, keep
    the model's own initialization.

    Args:
      model: a Linen module, `(images, *, train)`.
      key: the key for the kernels and the model's own initialization.
      images: f[N, ...], a batch as in training, after augmentation and normalization.
      tolerance: the greatest difference of the variance from 1; 0.1 in the paper. If the layer is linear, one division
        gives 1 up to rounding.
      max_iterations: the greatest number of divisions per layer.

    Returns:
      All variables of the model; collections other than the parameters are from the model's own `init`.

    Raises:
      ValueError: the batch has one example, the model has no layers, a layer's output does not vary, or its variance
        does not reach 1. Under `jax.jit` the last two are not detected.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> model = jaxtrain.models.mlp(num_classes=3, widths=(5,))
      >>> images = jnp.linspace(-1.0, 1.0, 32).reshape(4, 2, 2, 2)
      >>> variables = jaxtrain.nn.lsuv(model, jax.random.key(0), images, tolerance=0.01)
      >>> print(f"{model.apply(variables, images, train=False).var():.2f}")
      1.00
    """
    check_batch(images, "lsuv")

    def run(key: jax.Array, images: jax.Array) -> Any:
        init_key, kernel_key = jax.random.split(key)
        variables = model.init(init_key, images, train=False)

        keys = layer_keys(kernel_key, variables)

        def rule(layer: LayerCall) -> Any:
            return _draw_kernel(layer, keys[layer.index, 0], tolerance, max_iterations)

        return rewrite_layers(model, variables, images, rule)

    variables, report = jax.jit(run)(key, jnp.asarray(images))
    check_report(model, report, "lsuv")
    _check_variances(report, tolerance, max_iterations)
    return dict(variables)


def _draw_kernel(layer: LayerCall, key: jax.Array, tolerance: float, max_iterations: int) -> Any:
    """Draw an orthonormal kernel and divide it until the outputs have variance 1."""

    def measure(kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        outputs = layer.outputs(layer.replace_kernel(kernel))
        return outputs, outputs.astype(np.promote_types(outputs.dtype, np.float32)).var()

    def divide(state: Any) -> Any:
        kernel, _, variance, i = state
        kernel = kernel / jnp.sqrt(jnp.where(variance > 0, variance, 1)).astype(kernel.dtype)
        return kernel, *measure(kernel), i + 1

    old = layer.params["kernel"]
    matrix = orthogonal(groups=layer.groups)(key, layer.matrix_shape(), np.promote_types(old.dtype, np.float32))
    kernel = matrix.reshape(old.shape)
    first = (kernel, *measure(kernel), jnp.int32(0))
    kernel, outputs, variance, _ = jax.lax.while_loop(
        lambda state: (jnp.abs(state[2] - 1) >= tolerance) & (state[3] < max_iterations), divide, first
    )
    return layer.replace_kernel(kernel), outputs, {VARIES: is_varying(layer, outputs), _VARIANCE: variance}


def _check_variances(report: Mapping[str, Mapping[str, Any]], tolerance: float, iterations: int) -> None:
    for name, measurements in report.items():
        variance = measurements[_VARIANCE]
        if not isinstance(variance, jax.core.Tracer) and not abs(float(variance) - 1) < tolerance:
            raise ValueError(
                f"lsuv: the output of the layer {name} has the variance {float(variance):.3g} after {iterations} "
                f"divisions of its kernel, not 1 within {tolerance:g}: check whether the layer normalizes its kernel"
            )
