"""The joins of FractalNet and their drop-path (Larsson et al. 2017, arXiv:1605.07648, section 4)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def join_given(present: jax.Array, columns: Sequence[jax.Array]) -> jax.Array:
    """The mean of the columns that are present.

    Args:
      present: bool[C], one of them true at least.
      columns: C arrays of one shape.
    """
    total = sum(jnp.where(here, x, jnp.zeros((), x.dtype)) for here, x in zip(present, columns, strict=True))
    return total / present.sum().astype(columns[0].dtype)


def local_paths_given(present: jax.Array, last: jax.Array) -> jax.Array:
    """bool[count]: the inputs of a join that are `present`, or only that of number `last` where none is."""
    return jnp.where(present.any(), present, jnp.arange(present.shape[0]) == last)


def local_paths(key: jax.Array, count: int, rate: float) -> jax.Array:
    """bool[count]: each input of a join is there with probability 1 - `rate`, and one at random where none is."""
    each, last = jax.random.split(key)
    present = jax.random.bernoulli(each, 1 - rate, (count,))
    return local_paths_given(present, jax.random.randint(last, (), 0, count))


def global_paths(column: jax.Array, columns: Sequence[int]) -> jax.Array:
    """bool[C]: of the `columns` that a join has, only `column`; all where it is not among them, for nothing of that
    join is in use then.
    """
    chosen = jnp.asarray(columns) == column
    return jnp.where(chosen.any(), chosen, jnp.ones_like(chosen))
