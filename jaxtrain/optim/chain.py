"""Chains of gradient transformations, on trees of several dtypes and under strict dtype promotion."""

from typing import Any

import jax
import jax.numpy as jnp
import optax


def chain(*parts: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """`optax.chain` in at least float32, which tolerates extra arguments whatever it is made of.

    Leaves in bfloat16 or float16 are converted on the way in and out, and the state is float32: in bfloat16 a decay of
    0.999 is 1. The dtypes of the state stay those of `init` whatever the hyperparameters are.
    """
    tx = optax.with_extra_args_support(optax.chain(*parts))

    def init(params: optax.Params) -> optax.OptState:
        return tx.init(_widened(params))

    def update(updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra: Any) -> Any:
        wide = None if params is None else _widened(params)
        new, after = tx.update(_widened(updates), state, wide, **extra)
        return _in_dtypes_of(updates, new), _in_dtypes_of(state, after)

    return optax.GradientTransformationExtraArgs(init, update)


def with_standard_promotion(tx: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """`tx` computed under jax's standard promotion, with updates and state kept in the dtypes they had.

    Some of optax's transforms mix counts with floats, or add leaves of several dtypes up.
    """
    tx = optax.with_extra_args_support(tx)

    def init(params: optax.Params) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return tx.init(params)

    def update(updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            new, after = tx.update(updates, state, params, **extra)
        return _like(new, updates), _like(after, state)

    return optax.GradientTransformationExtraArgs(init, update)


def like(value: Any, x: jax.Array) -> Any:
    """A hyperparameter in the dtype of a leaf; a Python number takes it by itself."""
    return float(value) if isinstance(value, int | float) else jnp.asarray(value).astype(x.dtype)


def _widened(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.astype(jnp.float32) if x.dtype in (jnp.bfloat16, jnp.float16) else x, tree)


def _in_dtypes_of(reference: Any, tree: Any) -> Any:
    return jax.tree.map(lambda r, x: x.astype(r.dtype), reference, tree)


def _like(tree: Any, other: Any) -> Any:
    return jax.tree.map(lambda x, y: x.astype(y.dtype) if hasattr(y, "dtype") else x, tree, other)
