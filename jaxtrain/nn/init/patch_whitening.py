"""Kernels made of the patches that a layer sees: principal components, centroids, and whitened components.

`pca_filters` and `kmeans_filters` are section 3.3 of Kraehenbuehl et al. 2016 (arXiv:1511.06856), spherical k-means
after Coates & Ng 2012, "Learning feature representations with k-means". `whiten_first_layer` is of Page 2019, "How to
train your ResNet", and Jordan 2024 (arXiv:2404.00498), section 3.2.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxtrain.nn.layer_calls import Layer, is_layer

_ROUNDS = 10
"""Of k-means; Coates & Ng find that more do not help."""
_RIDGE = 1e-3
"""Of the mean variance, added before whitening, so that components of noise are not blown up."""
_AT_A_TIME = 500
"""Images whose patches are in memory together."""


def patches_of(layer: Layer, key: jax.Array, count: int) -> jax.Array:
    """At most `count` rows of what the layer's kernel is multiplied with: f[groups, count, inputs].

    A convolution whose kernel is the identity gives its patches, whatever its strides, padding and dilation.
    """
    inputs, _ = layer.matrix()
    if isinstance(layer.module, nn.Conv):
        kernel = layer.params["kernel"]
        identity = jnp.eye(inputs, dtype=kernel.dtype).reshape(*kernel.shape[:-1], inputs)
        whole = layer.module.clone(features=layer.groups * inputs, use_bias=False, mask=None)
        found: Any = whole.apply({"params": {"kernel": jnp.tile(identity, layer.groups)}}, layer.inputs)
    else:
        found = layer.inputs
        if isinstance(layer.module, nn.DenseGeneral):
            axes = layer.module.axis if isinstance(layer.module.axis, tuple | list) else (layer.module.axis,)
            found = jnp.moveaxis(found, axes, range(-len(axes), 0))
    rows = found.reshape(-1, layer.groups, inputs)
    return rows[_spread(key, rows.shape[0], count)].transpose(1, 0, 2)


def pca_filters(patches: jax.Array, random: jax.Array) -> jax.Array:
    """f[inputs, outputs]: principal components of `patches` f[P, inputs], the greatest first, then columns of `random`.

    Where the patches have fewer components than there are outputs, those of `random` f[inputs, outputs] stay.
    """
    components, variances = _components(patches)
    count = min(components.shape[1], random.shape[1])
    is_there = (variances > 1e-6 * variances[0])[:count]
    found = jnp.where(is_there[None, :], components[:, :count], random[:, :count])
    return jnp.concatenate([found, random[:, count:]], axis=1)


def kmeans_filters(key: jax.Array, patches: jax.Array, random: jax.Array) -> jax.Array:
    """f[inputs, outputs]: a column a centroid of the whitened `patches` f[P, inputs] on the sphere.

    Where there are fewer patches than outputs, columns of `random` f[inputs, outputs] stay.
    """
    components, variances = _components(patches)
    whitening = components / jnp.sqrt(variances + _RIDGE * variances.sum() / patches.shape[1])[None, :]
    points = (patches - patches.mean(axis=0, keepdims=True)) @ whitening
    points = points / jnp.maximum(jnp.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    count = min(points.shape[0], random.shape[1])
    first = points[_spread(key, points.shape[0], count)]

    def moved(centroids: jax.Array, _: None) -> tuple[jax.Array, None]:
        nearest = jax.nn.one_hot((points @ centroids.T).argmax(axis=1), count, dtype=points.dtype)
        total = nearest.T @ points
        norm = jnp.linalg.norm(total, axis=1, keepdims=True)
        return jnp.where(norm > 0, total / jnp.where(norm > 0, norm, 1), centroids), None

    centroids, _ = jax.lax.scan(moved, first, length=_ROUNDS)
    found = whitening @ centroids.T
    size = jnp.linalg.norm(found, axis=0, keepdims=True)
    return jnp.concatenate([found / jnp.where(size > 0, size, 1), random[:, count:]], axis=1)


def _spread(key: jax.Array, rows: int, count: int) -> jax.Array:
    """i32[min(count, rows)]: rows at equal distances from a random one on, so that no example is left out by chance."""
    count = min(count, rows)
    steps = jnp.asarray([i * rows // count for i in range(count)], jnp.int32)
    return (steps + jax.random.randint(key, (), 0, rows, jnp.int32)) % rows


def _components(patches: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Principal components f[inputs, R] of f[P, inputs] and their variances f[R], the greatest first."""
    centered = patches - patches.mean(axis=0, keepdims=True)
    _, singular, transposed = jnp.linalg.svd(centered, full_matrices=False)
    return transposed.T, jnp.square(singular) / patches.shape[0]


def whiten_first_layer(model: nn.Module, key: jax.Array, images: Any, *, epsilon: float = 5e-4) -> dict[str, Any]:
    """Variables whose first convolution gives the whitened components of its input patches, then their negatives.

    With the second moments of all patches, not centered, as eigenvectors v and eigenvalues l, the greatest first, the
    kernels are v / sqrt(l + epsilon), so that outputs of different components are uncorrelated and each has the second
    moment l / (l + epsilon). Where the layer has more features than a patch has values, the next ones are the
    negatives, for an activation that passes on one sign. All else, its bias included, is as the model initializes it.
    The sums are made in float64 on the host.

    Args:
      model: a Linen module, `(images, *, train)`.
      key: of the other parameters.
      images: f[N, H, W, C], as the model sees them, without augmentation.
      epsilon: added to the eigenvalues.

    Returns:
      All variables of the model.

    Raises:
      ValueError: the first layer is no convolution of one group, or has more than twice as many features as a patch has
        values; or there are fewer patches than values.
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
            f"the first layer, {'/'.join(path)}, has {features} features, and patches of {values} values have {values} "
            f"components and as many negatives: give it {2 * values} features at the most"
        )
    moments, count = _second_moments(layer, values, images)
    if count < values:
        raise ValueError(f"{count} patches are too few to find the {values} components of patches; give more images")
    kernel = whitening_filters(moments / count, epsilon)
    both = np.concatenate([kernel, -kernel], axis=1)[:, :features]
    new = {**params, "kernel": jnp.asarray(both.reshape(old.shape), old.dtype)}
    return {**variables, "params": _with(variables["params"], path, new)}


def whitening_filters(moments: np.ndarray, epsilon: float) -> np.ndarray:
    """f64[values, values]: eigenvectors of `moments` as columns, each over the root of its eigenvalue + `epsilon`.

    The greatest eigenvalue is first. The entry of a column that is greatest in size is positive, so that the sign of a
    component does not depend on the library that finds it.
    """
    eigenvalues, vectors = np.linalg.eigh(moments)
    eigenvalues, vectors = eigenvalues[::-1], vectors[:, ::-1]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    scaled: np.ndarray = vectors * np.where(largest < 0, -1, 1) / np.sqrt(np.maximum(eigenvalues, 0) + epsilon)
    return scaled


def _first_layer(model: nn.Module, variables: Mapping[str, Any], image: Any) -> tuple[tuple[str, ...], nn.Conv]:
    """Where the first layer is that the model calls, and the layer, detached; nothing is computed."""
    found: list[tuple[tuple[str, ...], Any]] = []

    def intercept(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if not found and is_layer(context):
            found.append((context.module.path, context.module.clone(parent=None)))
        return call(*args, **kwargs)

    with nn.intercept_methods(intercept):
        jax.eval_shape(lambda v, x: model.apply(v, x, train=False), dict(variables), image)
    if not found or not isinstance(found[0][1], nn.Conv) or found[0][1].feature_group_count != 1:
        name = "/".join(found[0][0]) if found else "nothing"
        raise ValueError(f"whitening of patches is for a convolution of one group, and {name} is called first")
    return found[0]


def _second_moments(layer: nn.Conv, values: int, images: Any) -> tuple[np.ndarray, int]:
    """f64[values, values], the sum over all patches of their outer products, and how many patches there are."""
    window = tuple(layer.kernel_size) if not isinstance(layer.kernel_size, int) else (layer.kernel_size,)
    eye = jnp.eye(values, dtype=jnp.float32).reshape(*window, -1, values)
    whole = layer.clone(features=values, use_bias=False, mask=None, dtype=jnp.float32)

    @jax.jit
    def patches(batch: jax.Array) -> jax.Array:
        found: Any = whole.apply({"params": {"kernel": eye}}, batch.astype(jnp.float32))
        return found.reshape(-1, values)

    total, count = np.zeros((values, values)), 0
    for start in range(0, len(images), _AT_A_TIME):
        rows = np.asarray(patches(jnp.asarray(images[start : start + _AT_A_TIME])), np.float64)
        total += rows.T @ rows
        count += len(rows)
    return total, count


def _with(tree: Mapping[str, Any], path: tuple[str, ...], value: Any) -> Any:
    """`tree` with `value` at `path`."""
    return {**tree, path[0]: _with(tree[path[0]], path[1:], value)} if path else value
