"""Metrics as (sum, count) pairs, added up on the device and read an interval later."""

import functools
from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

Pair = tuple[jax.Array, jax.Array]
NEVER = np.iinfo(np.int32).max
"""Stands for "no step" in `Totals.first_bad`."""


class Totals(flax.struct.PyTreeNode):
    """What an interval of training adds up to.

    Attributes:
      pairs: by metric, f32[] sum over examples and int32[] count of examples.
      learning_rate: f32[], the rate of the latest step; NaN where the optimizer has none.
      loss_scale: f32[], the scale of the next loss; NaN where losses are not scaled.
      first_bad: int32[], the first step (counted from 1, as in metrics.jsonl) whose loss was not finite, or `NEVER`.
    """

    pairs: Mapping[str, Pair]
    learning_rate: jax.Array
    loss_scale: jax.Array
    first_bad: jax.Array


def empty_pairs() -> dict[str, Pair]:
    """The pairs of no example at all."""
    return {name: (jnp.float32(0), jnp.int32(0)) for name in ("loss", "accuracy")}


def empty_totals() -> Totals:
    """The totals of no step at all."""
    nothing = jnp.float32(0)
    return Totals(pairs=empty_pairs(), learning_rate=nothing, loss_scale=nothing, first_bad=jnp.int32(NEVER))


def turned(totals: Totals) -> tuple[jax.Array, Totals]:
    """`totals` as one array of bytes, which the host fetches in a sixth of the time; and the totals of no step."""
    parts = [jax.lax.bitcast_convert_type(x, jnp.uint8).reshape(-1) for x in jax.tree.leaves(totals)]
    return jnp.concatenate(parts), empty_totals()


def fetched(data: jax.Array) -> Totals:
    """What `turned` put into one array, on the host; waits for the device."""
    kinds, structure = _kinds()
    parts = np.split(jax.device_get(data), np.cumsum([kind.itemsize for kind in kinds])[:-1])
    return jax.tree.unflatten(structure, [part.view(kind)[0] for part, kind in zip(parts, kinds, strict=True)])


@functools.cache
def _kinds() -> tuple[list[np.dtype], Any]:
    leaves, structure = jax.tree.flatten(jax.eval_shape(empty_totals))
    return [x.dtype for x in leaves], structure


def measure(losses: jax.Array, logits: jax.Array, labels: jax.Array, mask: jax.Array | None = None) -> dict[str, Pair]:
    """The pairs of a batch: `losses` f32[N], `logits` f32[N, K], `labels` int[N]; `mask` bool[N] leaves padding out.

    Of labels that are probabilities, f32[N, K], the most probable class counts as the right one.
    """
    if labels.ndim == 2:
        labels = _largest(labels)
    correct = (_largest(logits) == labels).astype(jnp.float32)
    if mask is None:
        count = jnp.int32(losses.shape[0])
    else:
        count = mask.sum(dtype=jnp.int32)
        losses, correct = jnp.where(mask, losses, 0), jnp.where(mask, correct, 0)
    return {"loss": (losses.sum().astype(jnp.float32), count), "accuracy": (correct.sum(), count)}


def _largest(x: jax.Array) -> jax.Array:
    """int32[N], of 64 bits nowhere: the place of the largest of `x[N, K]`."""
    return jax.lax.argmax(x, x.ndim - 1, jnp.int32)


def add_pairs(a: Mapping[str, Pair], b: Mapping[str, Pair]) -> dict[str, Pair]:
    """The pairs of both."""
    return {name: (a[name][0] + b[name][0], a[name][1] + b[name][1]) for name in a}


def means(pairs: Mapping[str, Pair]) -> dict[str, float]:
    """Sum over count of each pair, on the host, that counted something."""
    return {name: float(total) / int(count) for name, (total, count) in pairs.items() if count}
