"""The gradient of a batch as the sum of those of its micro-batches, of which one at a time is in memory."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.random import example_indices
from jaxtrain.sharding import reshape
from jaxtrain.step_context import current_context
from jaxtrain.xla_cpu.unrolling import index_after, unrolls


class MicroBatches(NamedTuple):
    """A batch of N examples in equal parts; the first examples come once more where it does not divide evenly.

    Attributes:
      batch: arrays `[parts, examples, ...]`, a `Batch` or the images alone.
      indices: uint32[parts, examples], the index of each example in the batch.
      weights: f32[parts, examples], 0 where an example is there for the second time.
    """

    batch: Any
    indices: jax.Array
    weights: jax.Array

    @property
    def number(self) -> int:
        """The number of parts."""
        return int(self.indices.shape[0])


def split_batch(batch: Any, most: int) -> MicroBatches:
    """Split `batch` into as few micro-batches as there can be of at most `most` examples.

    Where batch normalization takes its statistics of groups of examples, each part has whole groups, so that they are
    those of the whole batch.

    Raises:
      ValueError: the groups do not divide evenly.
    """
    examples = jax.tree.leaves(batch)[0].shape[0]
    count = math.ceil(examples / most)
    spare = count * math.ceil(examples / count) - examples
    together = current_context().batch_norm.size or 1
    if together > 1 and examples % (count * together):
        raise ValueError(
            f"{count} micro-batches of {examples} examples do not hold whole groups of {together} for batch "
            "normalization; choose another data.micro_batch or parallel.batch_norm"
        )
    padded = jax.tree.map(lambda x: jnp.concatenate([x, x[:spare]]) if spare else x, batch)
    places = np.arange(examples + spare, dtype=np.uint32)
    indices = example_indices(examples)[places % np.uint32(examples)]
    weights = jnp.asarray(places < examples, jnp.float32)
    return MicroBatches(*jax.tree.map(lambda x: deal(x, count, together), (padded, indices, weights)))


def deal(x: jax.Array, parts: int, together: int = 1) -> jax.Array:
    """Deal `x[N, ...]` like cards to `[parts, N / parts, ...]`: a batch sharded over devices stays where it is.

    Args:
      x: the array.
      parts: the number of parts.
      together: the number of consecutive examples that make one card.
    """
    cards = x.shape[0] // (parts * together)
    dealt = reshape(x, cards, parts, together, *x.shape[1:]).swapaxes(0, 1)
    if together == 1:
        return dealt.squeeze(2)
    return jax.vmap(lambda part: reshape(part, cards * together, *x.shape[1:]))(dealt)


def collect(x: jax.Array, examples: int) -> jax.Array:
    """Undo `deal`: `[parts, n, ...]` to `[examples, ...]`, in the order of the batch."""
    parts, size = x.shape[:2]
    together = current_context().batch_norm.size or 1
    cards = x.reshape(parts, size // together, together, *x.shape[2:]) if together > 1 else x[:, :, None]
    whole = reshape(cards.swapaxes(0, 1), parts * size, *x.shape[2:])
    return whole if parts * size == examples else whole[:examples]


Gradient = Callable[[Any, MicroBatches], tuple[Any, Any, Any]]
"""`(variables, a micro-batch) -> (gradient of its share, what comes of each example, variables after it)`."""


def accumulate(
    gradient: Gradient, zeros: Any, variables: Any, parts: MicroBatches, examples: int
) -> tuple[Any, Any, Any]:
    """Return the sum of the gradients, what came of each of the `examples`, and the variables after the last part.

    The parts go through in a loop, or one after the other in the program where `xla_cpu.unrolling` says so.
    """

    def body(carried: tuple[Any, Any], part: MicroBatches) -> tuple[tuple[Any, Any], Any]:
        total, variables = carried
        grads, found, variables = gradient(variables, part)
        return (jax.tree.map(jnp.add, total, grads), variables), found

    carried: tuple[Any, Any] = (zeros, variables)
    if unrolls(parts.number):
        each = []
        for index in range(parts.number):
            carried, found = body(carried, index_after(carried[0], parts, index))
            each.append(found)
        found = jax.tree.map(lambda *xs: jnp.stack(xs), *each)
    else:
        carried, found = jax.lax.scan(body, carried, parts)
    return carried[0], jax.tree.map(lambda x: collect(x, examples), found), carried[1]
