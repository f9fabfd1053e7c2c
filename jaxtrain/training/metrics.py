"""Metrics as (sum, count) pairs, added up on the device and read an interval later."""

from collections.abc import Mapping

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
      first_bad: int32[], the first step (counted from 1, as in metrics.jsonl) whose loss was not finite, or `NEVER`.
    """

    pairs: Mapping[str, Pair]
    learning_rate: jax.Array
    first_bad: jax.Array


def empty_pairs() -> dict[str, Pair]:
    """The pairs of no example at all."""
    return {name: (jnp.float32(0), jnp.int32(0)) for name in ("loss", "accuracy")}


def empty_totals() -> Totals:
    """The totals of no step at all."""
    return Totals(pairs=empty_pairs(), learning_rate=jnp.float32(0), first_bad=jnp.int32(NEVER))


def measure(losses: jax.Array, logits: jax.Array, labels: jax.Array, mask: jax.Array | None = None) -> dict[str, Pair]:
    """The pairs of a batch: `losses` f32[N], `logits` f32[N, K], `labels` int[N]; `mask` bool[N] leaves padding out.

    Of labels that are probabilities, f32[N, K], the most probable class counts as the right one.
    """
    if labels.ndim == 2:
        labels = labels.argmax(axis=-1)
    correct = (logits.argmax(axis=-1) == labels).astype(jnp.float32)
    if mask is None:
        count = jnp.int32(losses.shape[0])
    else:
        count = mask.sum(dtype=jnp.int32)
        losses, correct = jnp.where(mask, losses, 0), jnp.where(mask, correct, 0)
    return {"loss": (losses.sum(), count), "accuracy": (correct.sum(), count)}


def add_pairs(a: Mapping[str, Pair], b: Mapping[str, Pair]) -> dict[str, Pair]:
    """The pairs of both."""
    return {name: (a[name][0] + b[name][0], a[name][1] + b[name][1]) for name in a}


def means(pairs: Mapping[str, Pair]) -> dict[str, float]:
    """Sum over count of each pair, on the host; waits for the device."""
    fetched = jax.device_get(pairs)
    return {name: float(total) / int(count) for name, (total, count) in fetched.items()}
