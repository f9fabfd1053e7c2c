"""The gradient of a batch as the sum of those of its micro-batches, of which one at a time is in memory."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.nn.statistics_over import examples_shared
from jaxtrain.random import example_numbers
from jaxtrain.sharding import reshaped


class Parts(NamedTuple):
    """A batch of N examples in equal parts, the first examples once more where it does not come out even.

    Attributes:
      batch: arrays of `[parts, examples, ...]`, a `Batch` or the images alone.
      numbers: uint32[parts, examples], the place of each example in the batch.
      weights: f32[parts, examples], 0 where an example is there for the second time.
    """

    batch: Any
    numbers: jax.Array
    weights: jax.Array

    @property
    def parts(self) -> int:
        """How many there are."""
        return int(self.numbers.shape[0])


def in_parts(batch: Any, most: int) -> Parts:
    """`batch` in as few parts as there can be of at most `most` examples.

    Where batch normalization takes its statistics of groups of examples, each part has whole groups, so that they are
    those of the batch in one piece.

    Raises:
      ValueError: where groups do not come out even.
    """
    examples = jax.tree.leaves(batch)[0].shape[0]
    count = math.ceil(examples / most)
    spare = count * math.ceil(examples / count) - examples
    together = examples_shared().size or 1
    if together > 1 and examples % (count * together):
        raise ValueError(
            f"{count} micro-batches of {examples} examples do not hold whole groups of {together} for batch "
            "normalization; choose another data.micro_batch or parallel.batch_norm"
        )
    padded = jax.tree.map(lambda x: jnp.concatenate([x, x[:spare]]) if spare else x, batch)
    places = np.arange(examples + spare, dtype=np.uint32)
    numbers = example_numbers(examples)[places % np.uint32(examples)]
    weights = jnp.asarray(places < examples, jnp.float32)
    return Parts(*jax.tree.map(lambda x: deal(x, count, together), (padded, numbers, weights)))


def deal(x: jax.Array, parts: int, together: int = 1) -> jax.Array:
    """`[N, ...]` as `[parts, N / parts, ...]`, dealt like cards: a batch cut over devices stays where it is.

    So many examples as are to be `together` are one card.
    """
    cards = x.shape[0] // (parts * together)
    dealt = reshaped(x, cards, parts, together, *x.shape[1:]).swapaxes(0, 1)
    if together == 1:
        return dealt.squeeze(2)
    return jax.vmap(lambda part: reshaped(part, cards * together, *x.shape[1:]))(dealt)


def gathered(x: jax.Array, examples: int) -> jax.Array:
    """What `deal` dealt, `[parts, n, ...]`, in one piece again and in order: `[examples, ...]`."""
    parts, size = x.shape[:2]
    together = examples_shared().size or 1
    cards = x.reshape(parts, size // together, together, *x.shape[2:]) if together > 1 else x[:, :, None]
    whole = reshaped(cards.swapaxes(0, 1), parts * size, *x.shape[2:])
    return whole if parts * size == examples else whole[:examples]


Gradient = Callable[[Any, Parts], tuple[Any, Any, Any]]
"""`(variables, a part) -> (gradient of the part's share, what comes of each example, variables after it)`."""

MOST_UNROLLED = 16
"""Parts beyond which a program that holds each of them takes too long to compile."""


def accumulated(gradient: Gradient, zeros: Any, variables: Any, parts: Parts, examples: int) -> tuple[Any, Any, Any]:
    """The sum of the parts' gradients, what came of each of the `examples`, and the variables after the last part.

    On a CPU the parts follow each other in the program, since XLA's gradients of convolutions are many times slower
    inside a loop there; elsewhere, and where they are many, in a loop.
    """

    def body(carried: tuple[Any, Any], part: Parts) -> tuple[tuple[Any, Any], Any]:
        total, variables = carried
        grads, found, variables = gradient(variables, part)
        return (jax.tree.map(jnp.add, total, grads), variables), found

    carried: tuple[Any, Any] = (zeros, variables)
    if jax.default_backend() != "cpu" or parts.parts > MOST_UNROLLED:
        carried, found = jax.lax.scan(body, carried, parts)
    else:
        each = []
        for index in range(parts.parts):
            carried, found = body(carried, _after(carried[0], parts, index))
            each.append(found)
        found = jax.tree.map(lambda *xs: jnp.stack(xs), *each)
    return carried[0], jax.tree.map(lambda x: gathered(x, examples), found), carried[1]


def _after(total: Any, parts: Parts, index: int) -> Parts:
    """The part of this number, to be had only once `total` is there.

    XLA is free to work on parts that do not depend on each other at once, with all of them in memory, and its compiler
    for CPUs drops `optimization_barrier`. That another part would be taken were more arrays NaN than there are is a
    dependency that it keeps. It is the sum of all of a gradient that is looked at, which is not to be had before the
    gradients are added; else they would stay in memory, those of each part, up to the end.
    """
    leaves = jax.tree.leaves(total)
    lost = sum(jnp.isnan(leaf.sum()).astype(jnp.int32) for leaf in leaves)
    place = jnp.where(lost > len(leaves), 0, index)
    return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, place, keepdims=False), parts)
