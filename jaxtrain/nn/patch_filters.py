"""Kernels made of what a layer sees: principal components of its input patches, or their centroids.

Section 3.3 of Kraehenbuehl et al. 2016 (arXiv:1511.06856); spherical k-means after Coates & Ng 2012, "Learning feature
representations with k-means".
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxtrain.nn.layer_calls import Layer

_ROUNDS = 10
"""Of k-means; Coates & Ng find that more do not help."""
_RIDGE = 1e-3
"""Of the mean variance, added before whitening, so that components of noise are not blown up."""


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
