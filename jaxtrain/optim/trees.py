"""Vector operations on parameter trees of one dtype or several: products, sums, and one flat vector."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax


def widest(tree: Any) -> Any:
    """Return the dtype that can hold every leaf, at least float32."""
    with jax.numpy_dtype_promotion("standard"):  # only dtypes are compared, nothing is converted
        return jnp.result_type(jnp.float32, *(jnp.result_type(leaf) for leaf in jax.tree.leaves(tree)))


def dot(a: Any, b: Any) -> jax.Array:
    """Return the inner product f[], added up in the widest dtype."""
    wide = widest(a)
    products = jax.tree.map(lambda x, y: jnp.sum(x.astype(wide) * y.astype(wide)), a, b)
    return sum(jax.tree.leaves(products), start=jnp.zeros((), wide))


def norm(a: Any) -> jax.Array:
    """Return the Euclidean norm f[]."""
    return jnp.sqrt(dot(a, a))


def add_scaled(x: Any, scale: jax.Array, direction: Any) -> Any:
    """Return `x + scale * direction` in the dtypes of `x`."""
    return jax.tree.map(lambda p, d: p + scale.astype(p.dtype) * d.astype(p.dtype), x, direction)


def scale(scale: jax.Array, x: Any) -> Any:
    """Return `scale * x` in the dtypes of `x`."""
    return jax.tree.map(lambda p: scale.astype(p.dtype) * p, x)


def subtract(a: Any, b: Any) -> Any:
    """Return `a - b`."""
    return jax.tree.map(jnp.subtract, a, b)


def negative(a: Any) -> Any:
    """Return `-a`."""
    return jax.tree.map(jnp.negative, a)


def zeros(a: Any) -> Any:
    """Return zeros like `a`."""
    return jax.tree.map(jnp.zeros_like, a)


def choose(condition: jax.Array, a: Any, b: Any) -> Any:
    """Return `a` if the scalar `condition` is True, else `b`."""
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)


def all_finite(tree: Any) -> jax.Array:
    """Return bool[], whether every element is finite."""
    return jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)] or [jnp.bool_(True)]).all()


def size(tree: Any) -> int:
    """Return the number of elements."""
    return sum(math.prod(jnp.shape(x)) for x in jax.tree.leaves(tree))


def ravel(tree: Any) -> tuple[jax.Array, Callable[[jax.Array], Any]]:
    """Return all leaves as one vector of the widest dtype, and a function that turns such a vector into a tree."""
    leaves, structure = jax.tree.flatten(tree)
    wide = widest(tree)
    vector = jnp.concatenate([x.astype(wide).reshape(-1) for x in leaves] or [jnp.zeros(0, wide)])

    def unflatten(v: jax.Array) -> Any:
        parts, start = [], 0
        for x in leaves:
            parts.append(v[start : start + x.size].reshape(x.shape).astype(x.dtype))
            start += x.size
        return jax.tree.unflatten(structure, parts)

    return vector, unflatten


def is_masked(x: Any) -> bool:
    """Return whether `x` is a leaf that optax has masked out; for use as `is_leaf`."""
    return isinstance(x, optax.MaskedNode)
