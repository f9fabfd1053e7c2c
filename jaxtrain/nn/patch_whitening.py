"""A first convolution that whitens patches of the images (Page 2019; Jordan 2024, arXiv:2404.00498, section 3.2)."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxtrain.nn.layer_calls import is_layer

_AT_A_TIME = 500
"""Images whose patches are in memory together."""


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
