"""Layer-sequential unit-variance initialization, LSUV (Mishkin & Matas 2016, "All you need is a good init")."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxtrain.annotations import PositiveFloat, PositiveInt
from jaxtrain.nn.init.initializers import orthogonal
from jaxtrain.nn.layer_calls import VARIES, Layer, check_batch, check_report, layer_keys, rewrite, varies

_VARIANCE = "variance"


def lsuv(
    model: nn.Module, key: jax.Array, images: Any, *, tolerance: PositiveFloat = 0.1, max_iterations: PositiveInt = 10
) -> dict[str, Any]:
    """Variables with orthonormal kernels, each divided by the deviation of what its layer gives on a batch.

    Algorithm 1 of the paper: layer by layer in the order of the model's calls, the kernel is divided by the standard
    deviation of all of the layer's outputs until their variance is 1 to within the tolerance; biases are 0. The model
    is called as in evaluation. Each group of a grouped convolution is orthonormal on its own.

    A layer that the model does not call in evaluation (an auxiliary head) stays as the model initializes it, and so
    do parameters that are no layer's.

    Args:
      model: a Linen module, `(images, *, train)`.
      key: of random numbers.
      images: f[N, ...], a batch as training would have it, augmentation and normalization done.
      tolerance: of the variance; 0.1 in the paper. A kernel that is divided at all gives 1 up to rounding, where its
        layer is linear.
      max_iterations: divisions a layer.

    Returns:
      All variables of the model, those other than parameters as its own `init` gives them.

    Raises:
      ValueError: for a batch of one; a model without layers; a layer whose output does not vary, or whose variance
        does not come near 1. Under `jax.jit` the last two go unseen.
    """
    check_batch(images, "lsuv")

    def run(key: jax.Array, images: jax.Array) -> Any:
        init_key, kernel_key = jax.random.split(key)
        variables = model.init(init_key, images, train=False)

        keys = layer_keys(kernel_key, variables)

        def rule(layer: Layer) -> Any:
            return _scaled(layer, keys[layer.index, 0], tolerance, max_iterations)

        return rewrite(model, variables, images, rule)

    variables, report = jax.jit(run)(key, jnp.asarray(images))
    check_report(model, report, "lsuv")
    _check_variances(report, tolerance, max_iterations)
    return dict(variables)


def _scaled(layer: Layer, key: jax.Array, tolerance: float, max_iterations: int) -> Any:
    """An orthonormal kernel, divided until the outputs have the variance 1."""

    def measured(kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        outputs = layer.outputs(layer.with_kernel(kernel))
        return outputs, outputs.astype(np.promote_types(outputs.dtype, np.float32)).var()

    def divided(state: Any) -> Any:
        kernel, _, variance, i = state
        kernel = kernel / jnp.sqrt(jnp.where(variance > 0, variance, 1)).astype(kernel.dtype)
        return kernel, *measured(kernel), i + 1

    old = layer.params["kernel"]
    drawn = orthogonal(groups=layer.groups)(key, layer.matrix(), np.promote_types(old.dtype, np.float32))
    kernel = drawn.reshape(old.shape)
    first = (kernel, *measured(kernel), jnp.int32(0))
    kernel, outputs, variance, _ = jax.lax.while_loop(
        lambda state: (jnp.abs(state[2] - 1) >= tolerance) & (state[3] < max_iterations), divided, first
    )
    return layer.with_kernel(kernel), outputs, {VARIES: varies(layer, outputs), _VARIANCE: variance}


def _check_variances(report: Mapping[str, Mapping[str, Any]], tolerance: float, iterations: int) -> None:
    for name, measured in report.items():
        variance = measured[_VARIANCE]
        if not isinstance(variance, jax.core.Tracer) and not abs(float(variance) - 1) < tolerance:
            raise ValueError(
                f"the output of the layer {name} has the variance {float(variance):.3g} after {iterations} divisions "
                f"of its kernel, not 1 to within {tolerance:g}: does the layer normalize its kernel?"
            )
