"""Gradient accumulation: the gradient of a batch as a sum over micro-batches, with one of them in memory at a time."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.random import example_indices
from jaxtrain.sharding import reshape
from jaxtrain.step_context import current_context
from jaxtrain.xla_cpu.unrolling import index_after, should_unroll


class MicroBatches(NamedTuple):
    """A batch of N examples in equal parts; the first examples are repeated if N does not divide evenly.

    Attributes:
      batch: arrays `[parts, examples, ...]`, a `Batch` or only the images.
      indices: uint32[parts, examples], the index of each example in the batch.
      weights: f32[parts, examples], 1 for an example and 0 for its repetition.
    """

    batch: Any
    indices: jax.Array
    weights: jax.Array

    @property
    def num_parts(self) -> int:
        """The number of micro-batches."""
        return int(self.indices.shape[0])


def split_batch(batch: Any, most: int) -> MicroBatches:
    """Split `batch` into the smallest number of micro-batches with at most `most` examples each.

    If batch normalization computes its statistics over groups of examples, each micro-batch holds complete groups.
    The groups are then the same as those of the whole batch.

    Raises:
      ValueError: the groups cannot be divided evenly among the micro-batches.
    """
    examples = jax.tree.leaves(batch)[0].shape[0]
    count = math.ceil(examples / most)
    spare = count * math.ceil(examples / count) - examples
    group_size = current_context().batch_norm.size or 1
    if group_size > 1 and examples % (count * group_size):
        raise ValueError(
            f"{examples} examples cannot be split into {count} micro-batches of complete groups of {group_size} for "
            "batch normalization; choose another data.micro_batch or parallel.batch_norm"
        )
    padded = jax.tree.map(lambda x: jnp.concatenate([x, x[:spare]]) if spare else x, batch)
    positions = np.arange(examples + spare, dtype=np.uint32)
    indices = example_indices(examples)[positions % np.uint32(examples)]
    weights = jnp.asarray(positions < examples, jnp.float32)
    return MicroBatches(*jax.tree.map(lambda x: split_round_robin(x, count, group_size), (padded, indices, weights)))


def split_round_robin(x: jax.Array, parts: int, group_size: int = 1) -> jax.Array:
    """Split `x[N, ...]` round-robin into `[parts, N / parts, ...]`: group i goes to part i modulo `parts`.

    A batch that is sharded over devices keeps each example on its device.

    Args:
      x: the array.
      parts: the number of parts.
      group_size: the number of consecutive examples in a group.
    """
    groups = x.shape[0] // (parts * group_size)
    split = reshape(x, groups, parts, group_size, *x.shape[1:]).swapaxes(0, 1)
    if group_size == 1:
        return split.squeeze(2)
    return jax.vmap(lambda part: reshape(part, groups * group_size, *x.shape[1:]))(split)


def merge_round_robin(x: jax.Array, examples: int) -> jax.Array:
    """Merge `[parts, n, ...]` into `[examples, ...]` in the order of the batch; the inverse of `deal`."""
    parts, size = x.shape[:2]
    group_size = current_context().batch_norm.size or 1
    groups = x.reshape(parts, size // group_size, group_size, *x.shape[2:]) if group_size > 1 else x[:, :, None]
    whole = reshape(groups.swapaxes(0, 1), parts * size, *x.shape[2:])
    return whole if parts * size == examples else whole[:examples]


Gradient = Callable[[Any, MicroBatches], tuple[Any, Any, Any]]
"""`(variables, micro-batch) -> (gradient of its share, arrays with a value for each example, variables after it)`."""


def accumulate(
    gradient: Gradient, zeros: Any, variables: Any, parts: MicroBatches, examples: int
) -> tuple[Any, Any, Any]:
    """Return the summed gradients, the values of each of the `examples`, and the variables after the last micro-batch.

    The micro-batches run in a `jax.lax.scan`, or unrolled if `xla_cpu.unrolling` chooses so.

    Args:
      gradient: the function that computes the gradient of one micro-batch.
      zeros: the initial value of the sum of gradients.
      variables: the model's variables before the batch.
      parts: the micro-batches.
      examples: the number of examples in the batch, without repetitions.
    """

    def body(carry: tuple[Any, Any], part: MicroBatches) -> tuple[tuple[Any, Any], Any]:
        total, variables = carry
        grads, values, variables = gradient(variables, part)
        return (jax.tree.map(jnp.add, total, grads), variables), values

    carry: tuple[Any, Any] = (zeros, variables)
    if should_unroll(parts.num_parts):
        outputs = []
        for index in range(parts.num_parts):
            carry, values = body(carry, index_after(carry[0], parts, index))
            outputs.append(values)
        values = jax.tree.map(lambda *xs: jnp.stack(xs), *outputs)
    else:
        carry, values = jax.lax.scan(body, carry, parts)
    return carry[0], jax.tree.map(lambda x: merge_round_robin(x, examples), values), carry[1]
