"""The type of a mixing: a function of a key, the step, and a batch with label probabilities."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxtrain.annotations import Component, Interval


class SoftBatch(NamedTuple):
    """A batch with soft labels.

    Attributes:
      images: f[N, H, W, C].
      targets: f32[N, K], class probabilities.
    """

    images: jax.Array
    targets: jax.Array


Mixing = Callable[[jax.Array, jax.Array, SoftBatch], SoftBatch]
"""A function `(key, step int32[], batch) -> batch` that keeps shapes, dtypes and the sum of each example's targets."""

Scheduled = float | Callable[[Any], Any]
ScheduledProbability = Annotated[Scheduled, Interval(least=0, most=1), Component("schedule")]
"""A probability, or a schedule of probabilities."""
ScheduledShare = Annotated[Scheduled, Interval(least=0, below=1), Component("schedule")]
"""A number in [0, 1), or a schedule of such numbers."""


def value_at_step(value: Scheduled, step: jax.Array, until: int | None) -> jax.Array:
    """Return the value f32[] at a step; 0 from step `until` on."""
    number = jnp.asarray(value(step) if callable(value) else value).astype(jnp.float32)
    return number if until is None else jnp.where(step < until, number, 0)


def compose_mixings(steps: Sequence[Mixing], num_classes: int) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Return a function that applies `steps` in order to a batch with integer labels.

    Args:
      steps: the mixings.
      num_classes: the number of classes.

    Returns:
      `(key, step, images f[N, H, W, C], labels int[N]) -> (images, probabilities f32[N, num_classes])`.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain.augment.mixing
      >>> from jaxtrain.augment.mixing.base import compose_mixings
      >>> mix = compose_mixings([jaxtrain.augment.mixing.label_smoothing(0.5)], num_classes=2)
      >>> images, targets = mix(jax.random.key(0), jnp.int32(0), jnp.zeros((2, 4, 4, 3)), jnp.array([0, 1]))
      >>> targets.tolist()
      [[0.75, 0.25], [0.25, 0.75]]
    """

    def mix(key: jax.Array, step: jax.Array, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        batch = SoftBatch(images, jax.nn.one_hot(labels, num_classes, dtype=jnp.float32))
        for index, mixing in enumerate(steps):
            batch = mixing(jax.random.fold_in(key, index), step, batch)
        return batch

    return mix
