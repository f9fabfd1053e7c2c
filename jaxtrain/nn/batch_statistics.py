"""Statistics of batches computed anew: for parameters that no batch has seen, averaged ones, say, or more exactly."""

from collections.abc import Iterable, Mapping
from itertools import repeat
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

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


def population_of(statistics: Iterable[Any], sizes: Iterable[float] | None = None) -> Any:
    """As `mean_of`, with the variance of all examples: that within the batches and that of the batches' means.

    In the layer that sees the data these are the data's own mean and variance, whatever the batches. The sums are in
    float64.
    """

    def second_moments(stats: Any) -> Any:
        flat = {k: np.asarray(x) for k, x in traverse_util.flatten_dict(stats).items()}
        wide = {k: x.astype(np.float64) if np.issubdtype(x.dtype, np.floating) else x for k, x in flat.items()}
        return {k: x + wide[*k[:-1], "mean"] ** 2 if _is_variance(k, wide) else x for k, x in wide.items()}

    mean = mean_of((second_moments(found) for found in statistics), sizes)
    found = {k: x - mean[*k[:-1], "mean"] ** 2 if _is_variance(k, mean) else x for k, x in mean.items()}
    return traverse_util.unflatten_dict(
        {k: x.astype(np.float32) if np.issubdtype(x.dtype, np.floating) else x for k, x in found.items()}
    )


def recalibrate(
    model: nn.Module,
    variables: Mapping[str, Any],
    batches: Iterable[jax.Array],
    *,
    rngs: Mapping[str, jax.Array] | None = None,
) -> dict[str, Any]:
    """Variables whose running statistics are those of `batches` (`population_of`) and not what training left there.

    The released ResNets of He et al. 2015 have true averages of this kind.

    Args:
      model: a Linen module with normalization over batches.
      variables: its parameters and other collections.
      batches: f32[N, H, W, C] each, normalized as in training; each size is compiled once.
      rngs: keys for what the model draws in training.

    Raises:
      ValueError: where there are no batches, or no statistics.
    """
    if COLLECTION not in variables:
        raise ValueError("the model keeps no statistics of batches: there is nothing to recalibrate")
    others = {k: v for k, v in variables.items() if k != "params"}
    compute = jax.jit(lambda images: batch_statistics_of(model, variables["params"], others, images, rngs or {}))
    found = [(jax.device_get(compute(images)), images.shape[0]) for images in batches]
    return {**variables, COLLECTION: population_of([x for x, _ in found], [n for _, n in found])}


def _is_variance(path: tuple[str, ...], stats: Mapping[tuple[str, ...], Any]) -> bool:
    return path[-1] == "var" and (*path[:-1], "mean") in stats


def _moved_toward(mean: Any, found: Any, share: float) -> Any:
    return jax.tree.map(lambda m, x: m + (x - m) * share if _is_real(m) else m, mean, found)


def _is_real(x: jax.Array) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating)
