"""AutoAugment, RandAugment and TrivialAugment: which operations are applied, and how much.

Ranges and bins are torchvision's (see `magnitudes.py`), as is the resampling by the nearest pixel and the black fill.
"""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.annotations import Interval, NonNegativeInt, PositiveInt
from jaxtrain.augment.autoaugment_tables import POLICIES
from jaxtrain.augment.geometry import Augmentation
from jaxtrain.augment.magnitudes import Space, autoaugment_space, randaugment_space, trivialaugment_space
from jaxtrain.augment.operations import Operation, entry, found, operations_given
from jaxtrain.augment.options import Fill, Interpolation

Bins = Annotated[int, Interval(least=2)]


def drawn_operations(key: jax.Array, space: Space, count: int, place: int | None) -> Operation:
    """`count` operations, each uniformly out of `space`, at the bin `place`, or at uniformly drawn ones for None."""
    which, bins, sign = jax.random.split(key, 3)
    index = jax.random.randint(which, (count,), 0, len(space.names), jnp.int32)
    at = jax.random.randint(bins, (count,), 0, space.magnitudes.shape[1], jnp.int32)
    if place is not None:
        at = jnp.full((count,), place, jnp.int32)
    return found(space, index, at, jax.random.bernoulli(sign, 0.5, (count,)))


def autoaugment_operations(key: jax.Array, policy: str, space: Space) -> Operation:
    """The two operations of a sub-policy of `policy`; the identity in the place of one that is not applied."""
    names, probabilities, bins = POLICIES[policy]
    index = np.array([[space.names.index(name) for name in row] for row in names], np.int32)
    which, chance, sign = jax.random.split(key, 3)
    row = jax.random.randint(which, (), 0, len(names), jnp.int32)
    pair = 2 * row + jnp.arange(2, dtype=jnp.int32)
    applied = jax.random.bernoulli(chance, entry(probabilities.reshape(-1), pair))
    chosen = jnp.where(applied, entry(index.reshape(-1), pair), space.names.index("identity"))
    return found(space, chosen, entry(bins.reshape(-1), pair), jax.random.bernoulli(sign, 0.5, (2,)))


def autoaugment(
    policy: Literal["cifar10", "imagenet", "svhn"] = "imagenet",
    interpolation: Interpolation = "nearest",
    fill: Fill = 0.0,
) -> Augmentation:
    """Applies one of the 25 sub-policies that were found on a data set; `policy` says on which."""

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        space = autoaugment_space(image.shape)
        operations = autoaugment_operations(key, policy, space)
        return operations_given(space.names, operations, image, interpolation, fill)

    return augment


def randaugment(
    n: PositiveInt = 2,
    m: NonNegativeInt = 9,
    bins: Bins = 31,
    interpolation: Interpolation = "nearest",
    fill: Fill = 0.0,
) -> Augmentation:
    """Applies `n` of 14 operations one after the other, all with the same magnitude.

    Args:
      n: how many.
      m: the magnitude, from 0 to `bins - 1`.
      bins: into how many the range of a magnitude is divided.
      interpolation: of geometric operations.
      fill: of what they leave empty.
    """
    if m >= bins:
        raise ValueError(f"m={m} is no magnitude of {bins}; it goes from 0 to {bins - 1}")

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        space = randaugment_space(image.shape, bins=bins)
        return operations_given(space.names, drawn_operations(key, space, n, m), image, interpolation, fill)

    return augment


def trivialaugment(bins: Bins = 31, interpolation: Interpolation = "nearest", fill: Fill = 0.0) -> Augmentation:
    """Applies one of 14 operations with a magnitude drawn from a wide range."""

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        space = trivialaugment_space(image.shape, bins=bins)
        return operations_given(space.names, drawn_operations(key, space, 1, None), image, interpolation, fill)

    return augment
