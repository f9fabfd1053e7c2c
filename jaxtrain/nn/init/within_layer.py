"""Data-dependent initialization within layers (Kraehenbuehl et al. 2016, arXiv:1511.06856, algorithm 1)."""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxtrain.annotations import PositiveInt
from jaxtrain.nn.init.initializers import xavier
from jaxtrain.nn.init.patch_whitening import extract_patches, kmeans_filters, pca_filters
from jaxtrain.nn.layer_calls import VARIES, LayerCall, check_batch, check_report, layer_keys, rewrite_layers

Filters = Literal["gaussian", "pca", "kmeans"]
"""The kernels before scaling: random numbers, or computed from the layer's inputs on the batch."""


def within_layer(
    model: nn.Module,
    key: jax.Array,
    images: Any,
    *,
    filters: Filters = "gaussian",
    mean: float = 0.0,
    patches: PositiveInt = 10_000,
) -> dict[str, Any]:
    """Return variables with which every channel of every layer has the same mean and standard deviation 1 on a batch.

    Algorithm 1 of the paper goes through the layers in the order of the model's calls in evaluation mode. Each channel
    has outputs with mean m and standard deviation s over examples and positions. Its kernel is divided by s, and its
    bias is `mean` - m / s. A layer without a bias is only scaled.

    The kernels before scaling are Gaussian, the principal components of the layer's input patches, or the centroids of
    the whitened patches (section 3.3). If a layer has more channels than the patches have components, the remaining
    kernels are Gaussian.

    Layers that the model does not call in evaluation keep the model's own initialization.

    Args:
      model: a Linen module, `(images, *, train)`.
      key: the key for the kernels and the model's own initialization.
      images: f[N, ...], a batch as in training.
      filters: the kernels before scaling.
      mean: the mean of each channel, beta in the paper; with a value slightly above 0, fewer ReLUs are dead.
      patches: the greatest number of patches for "pca" and "kmeans", drawn without replacement.

    Returns:
      All variables of the model; collections other than the parameters are from the model's own `init`.

    Raises:
      ValueError: the batch has one example, the model has no layers, or a channel does not vary; the last is not
        detected under `jax.jit`.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> model = jaxtrain.models.mlp(num_classes=3, widths=(5,))
      >>> images = jnp.linspace(-1.0, 1.0, 32).reshape(4, 2, 2, 2)
      >>> variables = jaxtrain.nn.within_layer(model, jax.random.key(0), images, mean=0.5)
      >>> logits = model.apply(variables, images, train=False)
      >>> print(logits.mean(axis=0).round(1), logits.std(axis=0).round(1))
      [0.5 0.5 0.5] [1. 1. 1.]
    """
    check_batch(images, "within_layer")

    def run(key: jax.Array, images: jax.Array) -> Any:
        init_key, kernel_key = jax.random.split(key)
        variables = model.init(init_key, images, train=False)

        keys = layer_keys(kernel_key, variables, 3)

        def rule(layer: LayerCall) -> Any:
            return _normalize(layer, _draw_kernel(layer, keys[layer.index], filters, patches), mean)

        return rewrite_layers(model, variables, images, rule)

    variables, report = jax.jit(run)(key, jnp.asarray(images))
    check_report(model, report, "within_layer")
    return dict(variables)


def _draw_kernel(layer: LayerCall, keys: jax.Array, filters: Filters, patches: int) -> jax.Array:
    """Return a kernel of arbitrary scale, in float32 or wider; it needs three keys."""
    old = layer.params["kernel"]
    wide = np.promote_types(old.dtype, np.float32)
    matrix = xavier()(keys[0], layer.matrix_shape(), wide)
    if filters != "gaussian":
        make = pca_filters if filters == "pca" else functools.partial(kmeans_filters, keys[2])
        rows, columns = matrix.shape
        rows_of_patches = extract_patches(layer, keys[1], patches).astype(wide)
        random = matrix.reshape(rows, layer.groups, columns // layer.groups).transpose(1, 0, 2)
        matrix = jax.vmap(make)(rows_of_patches, random).transpose(1, 0, 2)
    return matrix.reshape(old.shape)


def _normalize(layer: LayerCall, kernel: jax.Array, mean: float) -> Any:
    center, stddev = layer.moments(layer.outputs(layer.replace_kernel(kernel)))
    is_varying = stddev > 1e-5 * jnp.abs(center)
    scale = jnp.where(is_varying, stddev, 1).astype(kernel.dtype)
    bias = mean - center / scale.astype(center.dtype)
    params = layer.replace_kernel(kernel / jnp.expand_dims(scale, tuple(range(kernel.ndim - scale.ndim))), bias)
    return params, layer.outputs(params), {VARIES: is_varying.all()}
