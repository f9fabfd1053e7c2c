"""Join layers of FractalNet with drop-path regularization (Larsson et al. 2017, arXiv:1605.07648, section 4)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def fractal_join_given(present: jax.Array, columns: Sequence[jax.Array]) -> jax.Array:
    """Return the mean of the columns that are present.

    Args:
      present: bool[C], at least one of them true.
      columns: C arrays of the same shape.

    Example:
      >>> import jax.numpy as jnp, jaxtrain
      >>> columns = [jnp.full(2, value) for value in (1.0, 3.0, 8.0)]
      >>> jaxtrain.nn.fractal_join_given(jnp.array([True, True, False]), columns).tolist()
      [2.0, 2.0]
    """
    total = sum(
        jnp.where(is_present, x, jnp.zeros((), x.dtype)) for is_present, x in zip(present, columns, strict=True)
    )
    return total / present.sum().astype(columns[0].dtype)


def local_paths_given(present: jax.Array, last: jax.Array) -> jax.Array:
    """Return `present`, bool[count], for the inputs of a join; if none is present, the input `last` alone.

    Example:
      >>> import jax.numpy as jnp, jaxtrain
      >>> jaxtrain.nn.local_paths_given(jnp.array([False, False, False]), jnp.array(1)).tolist()
      [False, True, False]
    """
    return jnp.where(present.any(), present, jnp.arange(present.shape[0]) == last)


def draw_local_paths(key: jax.Array, count: int, rate: float) -> jax.Array:
    """Draw the present inputs of a join, bool[count], for local drop-path.

    Each input is present with probability 1 - `rate`. If none is, one is drawn uniformly.

    Example:
      >>> import jax, jaxtrain
      >>> jaxtrain.nn.draw_local_paths(jax.random.key(0), count=4, rate=0.5).tolist()
      [False, True, True, True]
    """
    present_key, last_key = jax.random.split(key)
    present = jax.random.bernoulli(present_key, 1 - rate, (count,))
    return local_paths_given(present, jax.random.randint(last_key, (), 0, count))


def global_paths(column: jax.Array, columns: Sequence[int]) -> jax.Array:
    """Return the present inputs of a join, bool[C], for global drop-path.

    Only `column` is present. If it is not one of the join's `columns`, all are present: the net does not use this
    join's output then.

    Example:
      >>> import jax.numpy as jnp, jaxtrain
      >>> [jaxtrain.nn.global_paths(jnp.array(column), [1, 2]).tolist() for column in (2, 0)]
      [[False, True], [True, True]]
    """
    is_column = jnp.asarray(columns) == column
    return jnp.where(is_column.any(), is_column, jnp.ones_like(is_column))
