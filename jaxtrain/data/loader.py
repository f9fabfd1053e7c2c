"""The in-memory loader: images stay uint8 on the device, and a batch is a function of `(seed, step)` in the step.

The examples form one endless sequence, a fresh permutation of the training split for each epoch, one after the other;
batch t is the t-th run of `batch_size` examples of it. So every example of an epoch is seen once, no batch is
short, and resuming is starting at a step. A batch may span two epochs.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Sharding

from jaxtrain.augment.pipeline import BatchAugmentation
from jaxtrain.data.dataset import ArraySource
from jaxtrain.data.preprocessing.base import Preprocessing


class Batch(NamedTuple):
    """`images` f32[B, H, W, C], normalized, and `labels` int32[B], or f32[B, K] where examples are mixed."""

    images: jax.Array
    labels: jax.Array


class Arrays(NamedTuple):
    """A split on the device: `images` uint8[N, H, W, C], `labels` int32[N]."""

    images: jax.Array
    labels: jax.Array


class Order(NamedTuple):
    """The order of an epoch and of the next: `indices` int32[2N]; the batch of `first_step` starts at `offset`."""

    indices: jax.Array
    first_step: jax.Array
    offset: jax.Array


def on_device(source: ArraySource, everywhere: Sharding) -> Arrays:
    """A split, copied whole to every device of the sharding `everywhere`."""
    return Arrays(*jax.device_put((source.images, source.labels.astype(np.int32)), everywhere))


def epoch_of(step: int, examples: int, batch_size: int) -> int:
    """The epoch in which the batch of `step` begins, counted from 0."""
    return step * batch_size // examples


class Shuffle:
    """Gives the `Order` that holds a step; draws a permutation an epoch, on the host.

    There it takes 2 ms for 60,000 examples, where XLA's sort on a CPU takes 60.
    """

    def __init__(
        self, draw: Callable[[int], np.random.RandomState], examples: int, batch_size: int, everywhere: Sharding
    ):
        self._draw, self._examples, self._batch_size = draw, examples, batch_size
        self._everywhere = everywhere
        self._steps = range(0)
        self._order: Order | None = None

    def order(self, step: int) -> Order:
        """The order for `step`; it is computed anew when `step` begins in another epoch than the one before."""
        if self._order is None or step not in self._steps:
            n, b = self._examples, self._batch_size
            epoch = epoch_of(step, n, b)
            first = -(-epoch * n // b)
            indices = np.concatenate([self._draw(e).permutation(n) for e in (epoch, epoch + 1)]).astype(np.int32)
            values = (indices, np.int32(first), np.int32(first * b - epoch * n))
            self._order = Order(*jax.device_put(values, self._everywhere))
            self._steps = range(first, ((epoch + 1) * n - 1) // b + 1)
        return self._order


class Whole:
    """Stands for the order where every batch is the whole split: that has none."""

    def __init__(self, everywhere: Sharding):
        self._order = Order(*jax.device_put((np.zeros(2, np.int32), np.int32(0), np.int32(0)), everywhere))

    def order(self, step: int) -> Order:
        """The same for every step."""
        del step
        return self._order


class Held:
    """The examples among which those of a step are: the split on the device, whatever the step."""

    def __init__(self, arrays: Arrays):
        self._arrays = arrays

    def __call__(self, step: int) -> Arrays:
        """The same for every step."""
        del step
        return self._arrays

    def close(self) -> None:
        """Nothing works ahead."""


def batch_indices(order: Order, step: jax.Array, batch_size: int) -> jax.Array:
    """Which examples the batch of `step` holds, int32[batch_size]."""
    start = (step - order.first_step) * batch_size + order.offset
    return jax.lax.dynamic_slice(order.indices, (start,), (batch_size,))


def normalize(images: jax.Array, normalization: Preprocessing) -> jax.Array:
    """`images` uint8[..., H, W, C] as the model sees them, f32."""
    return normalization.apply(images)


def take(arrays: Arrays, indices: jax.Array, divided: Sharding) -> Arrays:
    """The examples at `indices`, all of them in range, laid out as the sharding `divided` says."""
    return jax.lax.with_sharding_constraint(
        Arrays(*(a.at[indices].get(mode="promise_in_bounds") for a in arrays)), divided
    )


class Late(NamedTuple):
    """Another augmentation, for the steps from `first_step` on."""

    first_step: int
    augment: BatchAugmentation


Mix = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""`(step, images, labels int32[B]) -> (images, labels f32[B, K])`."""
Loader = Callable[[Arrays, Order, jax.Array], Batch]
"""`(split on the device, order, step) -> batch`; runs inside the jitted step."""


def training_loader(
    normalization: Preprocessing,
    augment: BatchAugmentation,
    key: Callable[[jax.Array], jax.Array],
    batch_size: int,
    divided: Sharding,
    *,
    late: Late | None = None,
    mix: Mix | None = None,
    normalize_first: bool = False,
) -> Loader:
    """Gathers, augments (with `key(step)`) and normalizes a training batch, or normalizes it first; and mixes it.

    From the step of `late` on, that augments in the place of `augment`.

    A batch of all examples is the split as it lies: another order would be another rounding of the same sums, and a
    line search compares values of one objective.
    """

    def load(arrays: Arrays, order: Order, step: jax.Array) -> Batch:
        if batch_size == arrays.labels.shape[0]:
            images, labels = jax.lax.with_sharding_constraint(arrays, divided)
        else:
            images, labels = take(arrays, batch_indices(order, step, batch_size), divided)
        if normalize_first:
            images = augmented(step, normalize(images, normalization))
        else:
            images = normalize(augmented(step, images), normalization)
        return Batch(*mix(step, images, labels)) if mix is not None else Batch(images, labels)

    def augmented(step: jax.Array, images: jax.Array) -> jax.Array:
        if late is None:
            return augment(key(step), images)
        return jax.lax.cond(step < late.first_step, augment, late.augment, key(step), images)

    return load
