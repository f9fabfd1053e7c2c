"""The batch of a step, made inside the compiled step: picked among images that stay uint8 on the device, augmented,
normalized and mixed. It is a function of `(seed, step)`.
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
    """`images` f32[B, H, W, C], normalized, and `labels` int32[B], or f32[B, K] where examples are mixed."""

    images: jax.Array
    labels: jax.Array


class AugmentSwitch(NamedTuple):
    """Another augmentation, for the steps from `first_step` on."""

    first_step: int
    augment: BatchAugmentation


Mix = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""`(step, images, labels int32[B]) -> (images, labels f32[B, K])`."""
CountEpochs = Callable[[jax.Array, jax.Array], ExampleEpochs]
"""`(images uint8[B, H, W, C] as loaded, step) -> how often each has been seen`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingLoader:
    """`(arrays, order, step) -> batch`, to be called inside `jax.jit`.

    A batch of all examples is the split as it lies: another order would be another rounding of the same sums, and a
    line search compares values of one objective.

    Attributes:
      normalization: the preprocessing, fitted.
      augment: the augmentation of a batch; None for none.
      key: from a step to the key of its augmentation.
      batch_size: the number of examples in a batch.
      sharding: the sharding of a batch; None to leave it to the compiler.
      switch: the augmentation that replaces `augment` late in the run.
      mix: what is done to the whole batch after that.
      normalize_first: whether a batch is normalized before it is augmented.
      count_epochs: how often each example has been seen, where an augmentation asks for it.
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
        """Pick, augment, normalize and mix the batch of `step`."""
        if self.batch_size == arrays.labels.shape[0]:
            images, labels = arrays if self.sharding is None else constrain(arrays, self.sharding)
        else:
            images, labels = take(arrays, batch_indices(order, step, self.batch_size), self.sharding)
        images = self.prepare(step, images)
        return Batch(*self.mix(step, images, labels)) if self.mix is not None else Batch(images, labels)

    def prepare(self, step: jax.Array, images: jax.Array) -> jax.Array:
        """Augment and normalize `images` uint8[N, H, W, C], the batch or the part of it that the context speaks of."""
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
    """Return the examples at `indices`, all of them in range, laid out as `sharding` says where there is one."""
    found = Arrays(*(a.at[indices].get(mode="promise_in_bounds") for a in arrays))
    return found if sharding is None else constrain(found, sharding)


def batch_indices(order: EpochOrder, step: jax.Array, batch_size: int) -> jax.Array:
    """Return the indices of the examples in the batch of `step`, int32[batch_size]."""
    start = (step - order.first_step) * batch_size + order.offset
    return jax.lax.dynamic_slice(order.indices, (start,), (batch_size,))
