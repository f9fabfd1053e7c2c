"""The in-memory loader: images stay uint8 on the device, and a batch is a function of `(seed, step)` in the step.

The examples form one endless sequence, a fresh permutation of the training split for each epoch, one after the other;
batch t is the t-th run of `batch_size` examples of it. So every example of an epoch is seen once, no batch is
short, and resuming is starting at a step. A batch may span two epochs.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from jaxtrain.augment.example_epochs import Sighting, seen
from jaxtrain.augment.pipeline import BatchAugmentation
from jaxtrain.data.dataset import ArraySource
from jaxtrain.data.example_order import Permutes
from jaxtrain.data.preprocessing.base import Preprocessing
from jaxtrain.random import numbered
from jaxtrain.sharding import laid_out, placed


class Batch(NamedTuple):
    """`images` f32[B, H, W, C], normalized, and `labels` int32[B], or f32[B, K] where examples are mixed."""

    images: jax.Array
    labels: jax.Array


class Arrays(NamedTuple):
    """A split on the device: `images` uint8[N, H, W, C], `labels` int32[N]."""

    images: jax.Array
    labels: jax.Array


@dataclasses.dataclass(frozen=True)
class Part:
    """One of `count` equal parts, one after the other, that every batch is cut into; `number` is uint32[]."""

    number: jax.Array
    count: int


class Order(NamedTuple):
    """The order of an epoch and of the next: `indices` int32[2N]; the batch of `first_step` starts at `offset`."""

    indices: jax.Array
    first_step: jax.Array
    offset: jax.Array


def on_device(source: ArraySource, everywhere: Sharding) -> Arrays:
    """A split, copied whole to every device of the sharding `everywhere`."""
    return Arrays(*placed((source.images, source.labels.astype(np.int32)), everywhere))


def epoch_of(step: int, examples: int, batch_size: int) -> int:
    """The epoch in which the batch of `step` begins, counted from 0."""
    return step * batch_size // examples


class Shuffle:
    """Gives the `Order` that holds a step; draws a permutation an epoch, on the host.

    There it takes 2 ms for 60,000 examples, where XLA's sort on a CPU takes 60.
    """

    def __init__(self, draw: Callable[[int], Permutes], examples: int, batch_size: int, everywhere: Sharding):
        self._examples, self._batch_size = examples, batch_size
        self._everywhere = everywhere

        @functools.lru_cache(maxsize=2)  # an epoch is the next one first
        def permutation(epoch: int) -> np.ndarray:
            return draw(epoch).permutation(examples).astype(np.int32)

        self._permutation = permutation
        self._steps = range(0)
        self._order: Order | None = None

    def order(self, step: int) -> Order:
        """The order for `step`; it is computed anew when `step` begins in another epoch than the one before."""
        if self._order is None or step not in self._steps:
            n, b = self._examples, self._batch_size
            epoch = epoch_of(step, n, b)
            first = -(-epoch * n // b)
            indices = np.concatenate([self._permutation(epoch), self._permutation(epoch + 1)])
            values = (indices, np.array(first, np.int32), np.array(first * b - epoch * n, np.int32))
            self._order = Order(*placed(values, self._everywhere))
            self._steps = range(first, ((epoch + 1) * n - 1) // b + 1)
        return self._order

    @property
    def until(self) -> int:
        """The first step after that of the latest order that needs another one."""
        return self._steps.stop


class Whole:
    """Stands for the order where every batch is the whole split: that has none."""

    until = sys.maxsize

    def __init__(self, everywhere: Sharding):
        self._order = Order(*placed((np.zeros(2, np.int32), *(np.zeros((), np.int32),) * 2), everywhere))

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


def part_of(x: jax.Array, part: Part) -> jax.Array:
    """The `part.number`-th of the equal parts of `x[N, ...]`."""
    size = x.shape[0] // part.count
    return jax.lax.dynamic_slice_in_dim(x, part.number * np.uint32(size), size)


def normalize(images: jax.Array, normalization: Preprocessing) -> jax.Array:
    """`images` uint8[..., H, W, C] as the model sees them, f32."""
    return normalization.apply(images)


def take(arrays: Arrays, indices: jax.Array, divided: Sharding | None) -> Arrays:
    """The examples at `indices`, all of them in range, laid out as the sharding `divided` says, if it does."""
    found = Arrays(*(a.at[indices].get(mode="promise_in_bounds") for a in arrays))
    return found if divided is None else laid_out(found, divided)


class Late(NamedTuple):
    """Another augmentation, for the steps from `first_step` on."""

    first_step: int
    augment: BatchAugmentation


Mix = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""`(step, images, labels int32[B]) -> (images, labels f32[B, K])`."""
Sightings = Callable[[jax.Array, jax.Array], Sighting]
"""`(images uint8[B, H, W, C] as loaded, step) -> how often each has been seen`."""


class Loader(Protocol):
    """`(split on the device, order, step) -> batch`; runs inside the jitted step."""

    def __call__(self, arrays: Arrays, order: Order, step: jax.Array, part: Part | None = None) -> Batch:
        """`part` is what a device of `pmap` makes of the batch, on the axis "data"; what is streamed is that alone."""


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
    sightings: Sightings | None = None,
) -> Loader:
    """Gathers, augments (with `key(step)`) and normalizes a training batch, or normalizes it first; and mixes it.

    From the step of `late` on, that augments in the place of `augment`. Both may ask for `sightings`.

    A batch of all examples is the split as it lies: another order would be another rounding of the same sums, and a
    line search compares values of one objective.
    """

    def load(arrays: Arrays, order: Order, step: jax.Array, part: Part | None = None) -> Batch:
        if part is not None:
            return load_part(arrays, order, step, part)
        if batch_size == arrays.labels.shape[0]:
            images, labels = laid_out(arrays, divided)
        else:
            images, labels = take(arrays, batch_indices(order, step, batch_size), divided)
        images = prepared(step, images)
        return Batch(*mix(step, images, labels)) if mix is not None else Batch(images, labels)

    def load_part(arrays: Arrays, order: Order, step: jax.Array, part: Part) -> Batch:
        size = batch_size // part.count
        if size == arrays.labels.shape[0]:
            images, labels = arrays
        elif batch_size == arrays.labels.shape[0]:
            images, labels = (part_of(x, part) for x in arrays)
        else:
            images, labels = take(arrays, part_of(batch_indices(order, step, batch_size), part), None)
        with numbered(part_of(jnp.arange(batch_size, dtype=jnp.uint32), part)):
            images = prepared(step, images)
        if mix is None:
            return Batch(images, labels)
        # partners are anywhere in the batch
        whole = (jax.lax.all_gather(x, "data", tiled=True) for x in (images, labels))
        return Batch(*(part_of(x, part) for x in mix(step, *whole)))

    def prepared(step: jax.Array, images: jax.Array) -> jax.Array:
        with seen(None if sightings is None else sightings(images, step)):
            if normalize_first:
                return augmented(step, normalize(images, normalization))
            return normalize(augmented(step, images), normalization)

    def augmented(step: jax.Array, images: jax.Array) -> jax.Array:
        if late is None:
            return augment(key(step), images)
        return jax.lax.cond(step < late.first_step, augment, late.augment, key(step), images)

    return load
