"""optax's transforms where dtype promotion is strict, and on trees of several dtypes."""

from typing import Any

import jax
import optax


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


def _like(tree: Any, other: Any) -> Any:
    return jax.tree.map(lambda x, y: x.astype(y.dtype) if hasattr(y, "dtype") else x, tree, other)
