"""Data-dependent initialization within layers (Kraehenbuehl et al. 2016, arXiv:1511.06856, algorithm 1)."""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxtrain.annotations import PositiveInt
from jaxtrain.nn.init.initializers import xavier
from jaxtrain.nn.init.patch_whitening import kmeans_filters, patches_of, pca_filters
from jaxtrain.nn.layer_calls import VARIES, Layer, check_batch, check_report, layer_keys, rewrite

Filters = Literal["gaussian", "pca", "kmeans"]
"""What kernels are before they are scaled: random numbers, or made of the layer's inputs on the batch."""


def within_layer(
    model: nn.Module,
    key: jax.Array,
    images: Any,
    *,
    filters: Filters = "gaussian",
    mean: float = 0.0,
    patches: PositiveInt = 10_000,
) -> dict[str, Any]:
    """Variables with which every channel of every layer has the same mean and the deviation 1 on a batch.

    Algorithm 1 of the paper, layer by layer in the order of the model's calls, as in evaluation: the kernel of each
    channel is divided by the deviation s of what it gives, over examples and places, and the bias is `mean` - m / s
    for its mean m. A layer without a bias is only scaled.

    Kernels begin as Gaussian numbers; as the principal components of the layer's input patches; or as centroids of
    these patches, whitened (section 3.3). Where a layer has more channels than the patches have components, the rest
    are Gaussian.

    What the model does not call in evaluation stays as the model initializes it.

    Args:
      model: a Linen module, `(images, *, train)`.
      key: of random numbers.
      images: f[N, ...], a batch as training would have it.
      filters: what kernels begin as.
      mean: beta, of each channel; a little above 0, fewer ReLUs are dead.
      patches: at most so many, drawn without replacement, are looked at for "pca" and "kmeans".

    Returns:
      All variables of the model, those other than parameters as its own `init` gives them.

    Raises:
      ValueError: for a batch of one; a model without layers; a channel that does not vary, which under `jax.jit` goes
        unseen.
    """
    check_batch(images, "within_layer")

    def run(key: jax.Array, images: jax.Array) -> Any:
        init_key, kernel_key = jax.random.split(key)
        variables = model.init(init_key, images, train=False)

        keys = layer_keys(kernel_key, variables, 3)

        def rule(layer: Layer) -> Any:
            return _normalized(layer, _drawn(layer, keys[layer.index], filters, patches), mean)

        return rewrite(model, variables, images, rule)

    variables, report = jax.jit(run)(key, jnp.asarray(images))
    check_report(model, report, "within_layer")
    return dict(variables)


def _drawn(layer: Layer, keys: jax.Array, filters: Filters, patches: int) -> jax.Array:
    """A kernel whose scale does not matter, in float32 at least; takes three keys."""
    old = layer.params["kernel"]
    wide = np.promote_types(old.dtype, np.float32)
    matrix = xavier()(keys[0], layer.matrix(), wide)
    if filters != "gaussian":
        make = pca_filters if filters == "pca" else functools.partial(kmeans_filters, keys[2])
        rows, columns = matrix.shape
        found = patches_of(layer, keys[1], patches).astype(wide)
        random = matrix.reshape(rows, layer.groups, columns // layer.groups).transpose(1, 0, 2)
        matrix = jax.vmap(make)(found, random).transpose(1, 0, 2)
    return matrix.reshape(old.shape)


def _normalized(layer: Layer, kernel: jax.Array, mean: float) -> Any:
    center, deviation = layer.moments(layer.outputs(layer.with_kernel(kernel)))
    varied = deviation > 1e-5 * jnp.abs(center)
    scale = jnp.where(varied, deviation, 1).astype(kernel.dtype)
    bias = mean - center / scale.astype(center.dtype)
    params = layer.with_kernel(kernel / jnp.expand_dims(scale, tuple(range(kernel.ndim - scale.ndim))), bias)
    return params, layer.outputs(params), {VARIES: varied.all()}
