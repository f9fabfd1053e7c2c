"""Recomputation of BatchNorm statistics, for example for averaged (EMA, SWA) parameters."""

from collections.abc import Iterable, Mapping
from itertools import repeat
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

COLLECTION = "batch_stats"


def compute_batch_statistics(
    model: nn.Module, params: Any, variables: Mapping[str, Any], images: jax.Array, rngs: Mapping[str, jax.Array]
) -> Any:
    """Return the statistics of one batch: the limit of the running statistics if every batch were this one.

    A running statistic is updated as `m * old + (1 - m) * batch`, as in `nn.BatchNorm`. The momentum m < 1 is an
    attribute of the module, so it is measured: m is the derivative of the new value by the old one. From an old value
    of 0 the new value is `(1 - m) * batch`. The result is therefore exact to about 1e-7 / (1 - m).

    Values that training does not change are returned as they are: statistics of frozen layers, and integers.

    The variance is divided by N; torch's running variance is divided by N - 1.

    Args:
      model: a Linen module whose collection `batch_stats` holds running means of that form.
      params: the model's parameters.
      variables: the model's other collections, including `batch_stats`.
      images: f32[N, H, W, C], normalized.
      rngs: the keys of the model's random streams in training.

    Returns:
      A tree like `variables["batch_stats"]`.
    """
    running = variables[COLLECTION]

    def update(old: Any) -> Any:
        inputs = {"params": params, **variables, COLLECTION: old}
        _, new = model.apply(inputs, images, train=True, rngs=dict(rngs), mutable=tuple(variables))
        return new[COLLECTION]

    def tangent(old: jax.Array, changes: jax.Array) -> Any:
        return jnp.full_like(old, changes) if _is_real(old) else np.zeros(old.shape, jax.dtypes.float0)

    def solve(old: jax.Array, new: jax.Array, momentum: jax.Array) -> jax.Array:
        return new / (1 - momentum) if _is_real(old) else old

    changed = jax.tree.map(lambda old, new: (old != new).any(), running, update(running))
    start = jax.tree.map(lambda old, changes: jnp.where(changes, jnp.zeros_like(old), old), running, changed)
    new, momentum = jax.jvp(update, (start,), (jax.tree.map(tangent, running, changed),))
    return jax.tree.map(solve, running, new, momentum)


def mean_statistics(statistics: Iterable[Any], sizes: Iterable[float] | None = None) -> Any:
    """Return the mean of the statistics over batches (Ioffe & Szegedy 2015, algorithm 2, with variances divided by N).

    The mean of the means, weighted by batch size, is the mean of all examples. The mean of the variances is the average
    variance within a batch. It leaves out the variance between the batches' means: 1/N of the total for batches of N
    independent examples.

    Args:
      statistics: the tree of each batch, from `compute_batch_statistics`; one tree is in memory at a time.
      sizes: the sizes of the batches; None if they are equal.

    Raises:
      ValueError: there are no batches, or `sizes` has another length.
    """
    mean, total = None, 0.0
    for tree, size in zip(statistics, repeat(1.0) if sizes is None else sizes, strict=sizes is not None):
        total += size
        mean = tree if mean is None else _update_mean(mean, tree, size / total)
    if mean is None:
        raise ValueError("there are no batches to average BatchNorm statistics over; give at least one")
    return mean


def population_statistics(statistics: Iterable[Any], sizes: Iterable[float] | None = None) -> Any:
    """Return the mean and variance of all examples: the variance within batches plus the variance of their means.

    Unlike `mean_statistics`, this leaves nothing out. In the layer that sees the data, the result is the data's mean
    and variance, however the data is divided into batches. The sums are in float64.
    """

    def second_moments(stats: Any) -> Any:
        flat = {k: np.asarray(x) for k, x in traverse_util.flatten_dict(stats).items()}
        wide = {k: x.astype(np.float64) if np.issubdtype(x.dtype, np.floating) else x for k, x in flat.items()}
        return {k: x + wide[*k[:-1], "mean"] ** 2 if _is_variance(k, wide) else x for k, x in wide.items()}

    mean = mean_statistics((second_moments(tree) for tree in statistics), sizes)
    population = {k: x - mean[*k[:-1], "mean"] ** 2 if _is_variance(k, mean) else x for k, x in mean.items()}
    return traverse_util.unflatten_dict(
        {k: x.astype(np.float32) if np.issubdtype(x.dtype, np.floating) else x for k, x in population.items()}
    )


def recalibrate(
    model: nn.Module,
    variables: Mapping[str, Any],
    batches: Iterable[jax.Array],
    *,
    rngs: Mapping[str, jax.Array] | None = None,
) -> dict[str, Any]:
    """Return `variables` with the running statistics replaced by the exact mean and variance over `batches`.

    The released ResNets of He et al. 2015 have true averages of this kind.

    Args:
      model: a Linen module with batch normalization, `(images, *, train)`.
      variables: the model's parameters and other collections.
      batches: f32[N, H, W, C] each, normalized as in training; each batch size is compiled once.
      rngs: the keys of the model's random streams in training.

    Raises:
      ValueError: there are no batches, or the model has no statistics.

    Example:
      >>> import flax, jax, jax.numpy as jnp, jaxtrain
      >>> class Net(flax.linen.Module):
      ...     @flax.linen.compact
      ...     def __call__(self, images, *, train):
      ...         return jaxtrain.nn.BatchNorm(train, name="norm")(images)
      >>> batches = [jnp.full((2, 1, 1, 1), value) for value in (1.0, 2.0, 6.0)]
      >>> variables = Net().init(jax.random.key(0), batches[0], train=False)
      >>> stats = jaxtrain.nn.recalibrate(Net(), variables, batches)["batch_stats"]["norm"]
      >>> print(f"mean {stats['mean'][0]:.2f}, variance {stats['var'][0]:.2f}")
      mean 3.00, variance 4.67
    """
    if COLLECTION not in variables:
        raise ValueError("the model has no BatchNorm statistics (collection 'batch_stats'): nothing to recalibrate")
    others = {k: v for k, v in variables.items() if k != "params"}
    compute = jax.jit(lambda images: compute_batch_statistics(model, variables["params"], others, images, rngs or {}))
    results = [(jax.device_get(compute(images)), images.shape[0]) for images in batches]
    return {**variables, COLLECTION: population_statistics([x for x, _ in results], [n for _, n in results])}


def _is_variance(path: tuple[str, ...], stats: Mapping[tuple[str, ...], Any]) -> bool:
    return path[-1] == "var" and (*path[:-1], "mean") in stats


def _update_mean(mean: Any, tree: Any, weight: float) -> Any:
    """Return `mean` moved toward `tree` by the fraction `weight`; leaves that are not floats stay."""
    return jax.tree.map(lambda m, x: m + (x - m) * weight if _is_real(m) else m, mean, tree)


def _is_real(x: jax.Array) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating)
