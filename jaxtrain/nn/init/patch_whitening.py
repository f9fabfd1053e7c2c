"""Kernels computed from a layer's input patches: principal components, k-means centroids and whitening filters.

`pca_filters` and `kmeans_filters` are section 3.3 of Kraehenbuehl et al. 2016 (arXiv:1511.06856). Spherical k-means is
after Coates & Ng 2012, "Learning feature representations with k-means". `whiten_first_layer` is from Page 2019, "How to
train your ResNet", and Jordan 2024 (arXiv:2404.00498), section 3.2.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxtrain.nn.layer_calls import LayerCall, is_layer

_ROUNDS = 10
"""The number of k-means iterations; Coates & Ng find that more do not help."""
_RIDGE = 1e-3
"""The fraction of the mean variance that is added before whitening, so that components of noise are not amplified."""
_CHUNK = 500
"""The number of images whose patches are in memory together."""


def extract_patches(layer: LayerCall, key: jax.Array, count: int) -> jax.Array:
    """Return at most `count` of the layer's input patches, f[groups, count, inputs].

    A convolution with the identity as its kernel outputs its patches, for any strides, padding and dilation.
    """
    inputs, _ = layer.matrix_shape()
    if isinstance(layer.module, nn.Conv):
        kernel = layer.params["kernel"]
        identity = jnp.eye(inputs, dtype=kernel.dtype).reshape(*kernel.shape[:-1], inputs)
        extractor = layer.module.clone(features=layer.groups * inputs, use_bias=False, mask=None)
        patches: Any = extractor.apply({"params": {"kernel": jnp.tile(identity, layer.groups)}}, layer.inputs)
    else:
        patches = layer.inputs
        if isinstance(layer.module, nn.DenseGeneral):
            axes = layer.module.axis if isinstance(layer.module.axis, tuple | list) else (layer.module.axis,)
            patches = jnp.moveaxis(patches, axes, range(-len(axes), 0))
    rows = patches.reshape(-1, layer.groups, inputs)
    return rows[_sample_rows(key, rows.shape[0], count)].transpose(1, 0, 2)


def pca_filters(patches: jax.Array, random: jax.Array) -> jax.Array:
    """Return the principal components of `patches` f[P, inputs] as columns f[inputs, outputs], the greatest first.

    If the patches have fewer components than there are outputs, the last columns are those of `random`
    f[inputs, outputs].
    """
    components, variances = _components(patches)
    count = min(components.shape[1], random.shape[1])
    is_present = (variances > 1e-6 * variances[0])[:count]
    filters = jnp.where(is_present[None, :], components[:, :count], random[:, :count])
    return jnp.concatenate([filters, random[:, count:]], axis=1)


def kmeans_filters(key: jax.Array, patches: jax.Array, random: jax.Array) -> jax.Array:
    """Return the centroids of the whitened `patches` f[P, inputs] on the sphere as columns f[inputs, outputs].

    If there are fewer patches than outputs, the last columns are those of `random` f[inputs, outputs].
    """
    components, variances = _components(patches)
    whitening = components / jnp.sqrt(variances + _RIDGE * variances.sum() / patches.shape[1])[None, :]
    points = (patches - patches.mean(axis=0, keepdims=True)) @ whitening
    points = points / jnp.maximum(jnp.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    count = min(points.shape[0], random.shape[1])
    first = points[_sample_rows(key, points.shape[0], count)]

    def update(centroids: jax.Array, _: None) -> tuple[jax.Array, None]:
        nearest = jax.nn.one_hot((points @ centroids.T).argmax(axis=1), count, dtype=points.dtype)
        total = nearest.T @ points
        norm = jnp.linalg.norm(total, axis=1, keepdims=True)
        return jnp.where(norm > 0, total / jnp.where(norm > 0, norm, 1), centroids), None

    centroids, _ = jax.lax.scan(update, first, length=_ROUNDS)
    filters = whitening @ centroids.T
    size = jnp.linalg.norm(filters, axis=0, keepdims=True)
    return jnp.concatenate([filters / jnp.where(size > 0, size, 1), random[:, count:]], axis=1)


def _sample_rows(key: jax.Array, rows: int, count: int) -> jax.Array:
    """Return i32[min(count, rows)], evenly spaced rows with a random offset, so that all examples are represented."""
    count = min(count, rows)
    steps = jnp.asarray([i * rows // count for i in range(count)], jnp.int32)
    return (steps + jax.random.randint(key, (), 0, rows, jnp.int32)) % rows


def _components(patches: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the principal components f[inputs, R] of f[P, inputs] and their variances f[R], the greatest first."""
    centered = patches - patches.mean(axis=0, keepdims=True)
    _, singular, transposed = jnp.linalg.svd(centered, full_matrices=False)
    return transposed.T, jnp.square(singular) / patches.shape[0]


def whiten_first_layer(model: nn.Module, key: jax.Array, images: Any, *, epsilon: float = 5e-4) -> dict[str, Any]:
    """Return variables whose first convolution outputs the whitened components of its patches, then their negatives.

    The matrix of second moments of all patches (not centered) has eigenvectors v and eigenvalues l, the greatest first.
    The kernels are v / sqrt(l + epsilon). Outputs of different components are then uncorrelated, and each has the
    second moment l / (l + epsilon). If the layer has more features than a patch has values, the next features are the
    negatives, for activations that pass on only one sign. All other parameters, including the layer's bias, keep the
    model's own initialization. The sums are in float64 on the host.

    Args:
      model: a Linen module, `(images, *, train)`.
      key: the key for the other parameters.
      images: f[N, H, W, C], preprocessed, without augmentation.
      epsilon: the number that is added to the eigenvalues.

    Returns:
      All variables of the model.

    Raises:
      ValueError: the first layer is not a convolution with one group, or has more than twice as many features as a
        patch has values; or there are fewer patches than values.

    Example:
      >>> import flax, jax, jax.numpy as jnp, jaxtrain
      >>> class Net(flax.linen.Module):
      ...     @flax.linen.compact
      ...     def __call__(self, images, *, train):
      ...         return flax.linen.Conv(2, (1, 1), name="conv")(images)
      >>> images = jnp.array([[3.0, 0.0], [0.0, 4.0]]).reshape(1, 1, 2, 2)
      >>> variables = jaxtrain.nn.whiten_first_layer(Net(), jax.random.key(0), images, epsilon=0.0)
      >>> print(Net().apply(variables, images, train=False)[0, 0].round(2))
      [[0.   1.41]
       [1.41 0.  ]]
    """
    variables: dict[str, Any] = jax.jit(lambda k, x: model.init(k, x, train=False))(key, jnp.asarray(images[:1]))
    path, layer = _first_layer(model, variables, images[:1])
    params: Any = variables["params"]
    for name in path:
        params = params[name]
    old = params["kernel"]
    values, features = old.size // old.shape[-1], old.shape[-1]
    if features > 2 * values:
        raise ValueError(
            f"the first layer, {'/'.join(path)}, has {features} features, but patches of {values} values have only "
            f"{values} components and as many negatives: give the layer at most {2 * values} features"
        )
    moments, count = _second_moments(layer, values, images)
    if count < values:
        raise ValueError(f"{count} patches are too few to compute the {values} components of patches; give more images")
    kernel = whitening_filters(moments / count, epsilon)
    both = np.concatenate([kernel, -kernel], axis=1)[:, :features]
    new = {**params, "kernel": jnp.asarray(both.reshape(old.shape), old.dtype)}
    return {**variables, "params": _replace_at(variables["params"], path, new)}


def whitening_filters(moments: np.ndarray, epsilon: float) -> np.ndarray:
    """Return f64[values, values], the eigenvectors of `moments` as columns, divided by sqrt(eigenvalue + epsilon).

    The greatest eigenvalue is first. The entry with the greatest magnitude in a column is positive, so that the sign
    does not depend on the linear algebra library.
    """
    eigenvalues, vectors = np.linalg.eigh(moments)
    eigenvalues, vectors = eigenvalues[::-1], vectors[:, ::-1]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    scaled: np.ndarray = vectors * np.where(largest < 0, -1, 1) / np.sqrt(np.maximum(eigenvalues, 0) + epsilon)
    return scaled


def _first_layer(model: nn.Module, variables: Mapping[str, Any], image: Any) -> tuple[tuple[str, ...], nn.Conv]:
    """Return the path of the first layer that the model calls, and the layer, detached; only trace the model."""
    calls: list[tuple[tuple[str, ...], Any]] = []

    def intercept(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if not calls and is_layer(context):
            calls.append((context.module.path, context.module.clone(parent=None)))
        return call(*args, **kwargs)

    with nn.intercept_methods(intercept):
        jax.eval_shape(lambda v, x: model.apply(v, x, train=False), dict(variables), image)
    if not calls or not isinstance(calls[0][1], nn.Conv) or calls[0][1].feature_group_count != 1:
        name = "/".join(calls[0][0]) if calls else "no layer"
        raise ValueError(
            "whitening of patches needs a model whose first layer is a convolution with one group, but "
            f"{name} is called first"
        )
    return calls[0]


def _second_moments(layer: nn.Conv, values: int, images: Any) -> tuple[np.ndarray, int]:
    """Return f64[values, values], the sum of the outer products of all patches, and the number of patches."""
    window = tuple(layer.kernel_size) if not isinstance(layer.kernel_size, int) else (layer.kernel_size,)
    eye = jnp.eye(values, dtype=jnp.float32).reshape(*window, -1, values)
    extractor = layer.clone(features=values, use_bias=False, mask=None, dtype=jnp.float32)

    @jax.jit
    def extract(batch: jax.Array) -> jax.Array:
        patches: Any = extractor.apply({"params": {"kernel": eye}}, batch.astype(jnp.float32))
        return patches.reshape(-1, values)

    total, count = np.zeros((values, values)), 0
    for start in range(0, len(images), _CHUNK):
        rows = np.asarray(extract(jnp.asarray(images[start : start + _CHUNK])), np.float64)
        total += rows.T @ rows
        count += len(rows)
    return total, count


def _replace_at(tree: Mapping[str, Any], path: tuple[str, ...], value: Any) -> Any:
    """Return `tree` with `value` at `path`."""
    return {**tree, path[0]: _replace_at(tree[path[0]], path[1:], value)} if path else value
