"""The loader inside the compiled step. The batch is a function of `(seed, step)`.

It selects a batch from uint8 images on the device, then augments, normalizes and mixes it.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
from jax.sharding import Sharding

from jaxtrain.augment.pipeline import BatchAugmentation
from jaxtrain.data.epoch_shuffle import EpochOrder
from jaxtrain.data.memory import Arrays
from jaxtrain.data.preprocessing.base import Preprocessing
from jaxtrain.sharding import constrain
from jaxtrain.step_context import ExampleEpochs, narrow_context


class Batch(NamedTuple):
    """A batch as the model sees it.

    Attributes:
      images: the normalized images f32[B, H, W, C].
      labels: the labels int32[B], or class probabilities f32[B, K] if examples are mixed.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxtrain
      >>> batch = jaxtrain.Batch(images=jnp.zeros((4, 8, 8, 1)), labels=jnp.zeros(4, jnp.int32))
      >>> batch.images.shape
      (4, 8, 8, 1)
    """

    images: jax.Array
    labels: jax.Array


class AugmentSwitch(NamedTuple):
    """The augmentation that applies from the step `first_step` on."""

    first_step: int
    augment: BatchAugmentation


Mix = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""`(step, images, labels int32[B]) -> (images, labels f32[B, K])`."""
CountEpochs = Callable[[jax.Array, jax.Array], ExampleEpochs]
"""`(images uint8[B, H, W, C] as loaded, step) -> number of earlier epochs of each example`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingLoader:
    """The function `(arrays, order, step) -> batch`, to be called inside `jax.jit`.

    A batch of all examples keeps the order of the split. Another order would round the same sums differently, and a
    line search must compare values of one objective.

    Attributes:
      normalization: the fitted preprocessing.
      augment: the augmentation of a batch; None for none.
      key: a function from a step to the key of its augmentation.
      batch_size: the number of examples in a batch.
      sharding: the sharding of a batch; None to leave it to the compiler.
      switch: the augmentation that replaces `augment` late in the run.
      mix: the mixing of the whole batch after augmentation; None for none.
      normalize_first: whether a batch is normalized before it is augmented.
      count_epochs: a function that counts the earlier epochs of each example; None if no augmentation requires it.
    """

    normalization: Preprocessing
    augment: BatchAugmentation | None
    key: Callable[[jax.Array], jax.Array]
    batch_size: int
    sharding: Sharding | None = None
    switch: AugmentSwitch | None = None
    mix: Mix | None = None
    normalize_first: bool = False
    count_epochs: CountEpochs | None = None

    def __call__(self, arrays: Arrays, order: EpochOrder, step: jax.Array) -> Batch:
        """Select, augment, normalize and mix the batch of `step`."""
        if self.batch_size == arrays.labels.shape[0]:
            images, labels = arrays if self.sharding is None else constrain(arrays, self.sharding)
        else:
            images, labels = take(arrays, batch_indices(order, step, self.batch_size), self.sharding)
        images = self.prepare(step, images)
        return Batch(*self.mix(step, images, labels)) if self.mix is not None else Batch(images, labels)

    def prepare(self, step: jax.Array, images: jax.Array) -> jax.Array:
        """Augment and normalize `images` uint8[N, H, W, C], the batch or the shard that the step context describes."""
        with narrow_context(epochs=None if self.count_epochs is None else self.count_epochs(images, step)):
            if self.normalize_first:
                return self._augment(step, normalize(images, self.normalization))
            return normalize(self._augment(step, images), self.normalization)

    def _augment(self, step: jax.Array, images: jax.Array) -> jax.Array:
        if self.augment is None:
            return images
        if self.switch is None:
            return self.augment(self.key(step), images)
        early = step < self.switch.first_step
        return jax.lax.cond(early, self.augment, self.switch.augment, self.key(step), images)


def normalize(images: jax.Array, normalization: Preprocessing) -> jax.Array:
    """Return `images` uint8[..., H, W, C] as the model sees them, f32."""
    return normalization.apply(images)


def take(arrays: Arrays, indices: jax.Array, sharding: Sharding | None) -> Arrays:
    """Return the examples at `indices`, which must be in range, with `sharding` unless it is None."""
    examples = Arrays(*(a.at[indices].get(mode="promise_in_bounds") for a in arrays))
    return examples if sharding is None else constrain(examples, sharding)


def batch_indices(order: EpochOrder, step: jax.Array, batch_size: int) -> jax.Array:
    """Return the indices of the examples in the batch of `step`, int32[batch_size]."""
    start = (step - order.first_step) * batch_size + order.offset
    return jax.lax.dynamic_slice(order.indices, (start,), (batch_size,))
