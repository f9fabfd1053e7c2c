"""What a mixing is: a function of a batch with probabilities for labels, of the step, and of an explicit key."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxtrain.annotations import Component, Interval


class Soft(NamedTuple):
    """A batch with soft labels: `images` f[N, H, W, C] and `targets` f32[N, K], probabilities of the classes."""

    images: jax.Array
    targets: jax.Array


Mixing = Callable[[jax.Array, jax.Array, Soft], Soft]
"""`(key, step int32[], batch) -> batch`; shapes and dtypes are kept, and so is the sum of an example's targets."""

Scheduled = float | Callable[[Any], Any]
ScheduledProbability = Annotated[Scheduled, Interval(least=0, most=1), Component("schedule")]
"""A probability, or a schedule of them."""
ScheduledShare = Annotated[Scheduled, Interval(least=0, below=1), Component("schedule")]
"""A number in [0, 1), or a schedule of them."""


def at(value: Scheduled, step: jax.Array, until: int | None) -> jax.Array:
    """f32[], the value at a step; 0 from step `until` on."""
    number = jnp.asarray(value(step) if callable(value) else value).astype(jnp.float32)
    return number if until is None else jnp.where(step < until, number, 0)


def mixings(steps: Sequence[Mixing], num_classes: int) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """`steps` in order as one function of a batch with class numbers.

    Returns:
      `(key, step, images f[N, H, W, C], labels int[N]) -> (images, probabilities f32[N, num_classes])`.
    """

    def mix(key: jax.Array, step: jax.Array, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        batch = Soft(images, jax.nn.one_hot(labels, num_classes, dtype=jnp.float32))
        for place, one in enumerate(steps):
            batch = one(jax.random.fold_in(key, place), step, batch)
        return batch

    return mix
