"""Statistics of batches, computed anew for parameters that no batch has seen: averaged ones, say."""

from collections.abc import Iterable, Mapping
from itertools import repeat
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

COLLECTION = "batch_stats"


def batch_statistics_of(
    model: nn.Module, params: Any, variables: Mapping[str, Any], images: jax.Array, rngs: Mapping[str, jax.Array]
) -> Any:
    """The statistics of one batch: the values to which the running ones would tend if they saw nothing else.

    A running statistic is `m * old + (1 - m) * batch`, as in `nn.BatchNorm`, with a momentum m < 1 that modules keep to
    themselves. Its derivative by the old value is m, and from an old value of 0 it is (1 - m) times the batch's; so m
    is told to about 1e-7 / (1 - m) of the result. What training leaves as it is stays: statistics of a frozen layer,
    and whole numbers.

    The variance is that of the batch (divided by N; torch's running one divides by N - 1).

    Args:
      model: a Linen module whose collection `batch_stats` holds running means of that form.
      params: its parameters.
      variables: its other collections, `batch_stats` among them.
      images: f32[N, H, W, C], normalized.
      rngs: keys for what the model draws in training.

    Returns:
      A tree like `variables["batch_stats"]`.
    """
    running = variables[COLLECTION]

    def after(old: Any) -> Any:
        known = {"params": params, **variables, COLLECTION: old}
        _, new = model.apply(known, images, train=True, rngs=dict(rngs), mutable=tuple(variables))
        return new[COLLECTION]

    def tangent(old: jax.Array, moves: jax.Array) -> Any:
        return jnp.full_like(old, moves) if _is_real(old) else np.zeros(old.shape, jax.dtypes.float0)

    def solve(old: jax.Array, new: jax.Array, momentum: jax.Array) -> jax.Array:
        return new / (1 - momentum) if _is_real(old) else old

    moved = jax.tree.map(lambda old, new: (old != new).any(), running, after(running))
    start = jax.tree.map(lambda old, moves: jnp.where(moves, jnp.zeros_like(old), old), running, moved)
    new, momentum = jax.jvp(after, (start,), (jax.tree.map(tangent, running, moved),))
    return jax.tree.map(solve, running, new, momentum)


def mean_of(statistics: Iterable[Any], sizes: Iterable[float] | None = None) -> Any:
    """The mean over batches, which evaluation uses (Ioffe & Szegedy 2015, algorithm 2, with each variance as it is).

    The mean of the means, weighted by size, is that of all examples. The mean of the variances is what a batch has on
    average, which leaves out how the means of the batches differ: of N independent examples, a part in N.

    Args:
      statistics: a tree for each batch, as `batch_statistics_of` gives it; one is kept at a time.
      sizes: of the batches, where they are not all of one size.
    """
    mean, total = None, 0.0
    for found, size in zip(statistics, repeat(1.0) if sizes is None else sizes, strict=sizes is not None):
        total += size
        mean = found if mean is None else _moved_toward(mean, found, size / total)
    if mean is None:
        raise ValueError("there are no batches to take the mean over; give one at least")
    return mean


def _moved_toward(mean: Any, found: Any, share: float) -> Any:
    return jax.tree.map(lambda m, x: m + (x - m) * share if _is_real(m) else m, mean, found)


def _is_real(x: jax.Array) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating)
