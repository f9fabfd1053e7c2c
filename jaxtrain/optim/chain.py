"""Chains of gradient transformations for trees of several dtypes and strict dtype promotion."""

from typing import Any

import jax
import jax.numpy as jnp
import optax


def chain(*parts: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Return `optax.chain` of `parts`, computed in at least float32, that accepts any extra arguments.

    Leaves in bfloat16 or float16 are converted on the way in and out, and the state is float32: in bfloat16 a decay of
    0.999 would be 1. The dtypes of the state stay those of `init`, whatever the dtypes of the hyperparameters are.
    """
    tx = optax.with_extra_args_support(optax.chain(*parts))

    def init(params: optax.Params) -> optax.OptState:
        return tx.init(_widen(params))

    def update(updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra: Any) -> Any:
        wide_params = None if params is None else _widen(params)
        new, after = tx.update(_widen(updates), state, wide_params, **extra)
        return _cast_tree_like(updates, new), _cast_tree_like(state, after)

    return optax.GradientTransformationExtraArgs(init, update)


def with_standard_promotion(tx: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Return `tx` computed under jax's standard dtype promotion; updates and state keep their dtypes.

    Some of optax's transformations mix counts with floats, or add up leaves of several dtypes.
    """
    tx = optax.with_extra_args_support(tx)

    def init(params: optax.Params) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return tx.init(params)

    def update(updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            new, after = tx.update(updates, state, params, **extra)
        return _cast_arrays_like(new, updates), _cast_arrays_like(after, state)

    return optax.GradientTransformationExtraArgs(init, update)


def cast_like(value: Any, x: jax.Array) -> Any:
    """Cast a hyperparameter to the dtype of the leaf `x`; a Python number becomes a weakly typed float."""
    return float(value) if isinstance(value, int | float) else jnp.asarray(value).astype(x.dtype)


def _widen(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.astype(jnp.float32) if x.dtype in (jnp.bfloat16, jnp.float16) else x, tree)


def _cast_tree_like(reference: Any, tree: Any) -> Any:
    return jax.tree.map(lambda r, x: x.astype(r.dtype), reference, tree)


def _cast_arrays_like(tree: Any, other: Any) -> Any:
    return jax.tree.map(lambda x, y: x.astype(y.dtype) if hasattr(y, "dtype") else x, tree, other)
