"""A key for each example of a batch, so that what is drawn for one depends neither on the others nor on their place.

An example is known by its number in the training batch. A layer that sees a part of the batch (a micro-batch) must know
which part, and Linen's modules pass only arrays on; so the numbers are set around the call of the model, where the
batch is divided, and are 0, 1, 2 ... otherwise.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import jax
import jax.numpy as jnp

T = TypeVar("T")

_numbers: ContextVar[jax.Array | None] = ContextVar("numbers", default=None)


@contextmanager
def numbered(numbers: jax.Array) -> Iterator[None]:
    """Says which examples of the training batch, uint32[N], the batches are that are seen within."""
    token = _numbers.set(numbers)
    try:
        yield
    finally:
        _numbers.reset(token)


def example_numbers(count: int) -> jax.Array:
    """uint32[count]: which examples of the training batch a batch of `count` is.

    Raises:
      ValueError: where `numbered` speaks of a batch of another size.
    """
    numbers = _numbers.get()
    if numbers is None:
        return jnp.arange(count, dtype=jnp.uint32)
    if numbers.shape != (count,):
        raise ValueError(
            f"{count} examples are to draw within a part of {numbers.shape[0]}; a layer that joins or splits "
            "examples must draw before that"
        )
    return numbers


def example_keys(key: jax.Array, batch: jax.Array) -> jax.Array:
    """key[N] for `batch[N, ...]`, functions of `key` and the number of the example; divided over devices as `batch` is.

    Raises:
      ValueError: where `numbered` speaks of a batch of another size.
    """
    numbers = example_numbers(batch.shape[0])
    return jax.vmap(jax.random.fold_in, (None, 0))(key, divided_as(numbers, batch))


def divided_as(numbers: jax.Array, batch: jax.Array) -> jax.Array:
    """`numbers[N]` over the devices of an explicit mesh as `batch[N, ...]` is; as they are on any other."""
    axis = jax.typeof(batch).sharding.spec[0] if batch.ndim else None
    return numbers if axis is None else jax.sharding.reshard(numbers, jax.P(axis))


def by_example(draw: Callable[[jax.Array], T], key: jax.Array, batch: jax.Array) -> T:
    """`draw(key of the example)` for each example of `batch[N, ...]`, stacked along a first axis of N."""
    return jax.vmap(draw)(example_keys(key, batch))
