"""AutoAugment, RandAugment and TrivialAugment: the draw of operations and magnitudes, and the factories.

Ranges and bins are torchvision's (see `magnitudes.py`), and so are nearest-neighbor resampling and the black fill.
"""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.annotations import Interval, NonNegativeInt, PositiveInt
from jaxtrain.augment.autoaugment_tables import POLICIES
from jaxtrain.augment.geometry import Augmentation
from jaxtrain.augment.magnitudes import PolicySpace, autoaugment_space, randaugment_space, trivialaugment_space
from jaxtrain.augment.operations import PolicyOperation, operations_given, select_operations, take_by_comparison
from jaxtrain.augment.options import Fill, Interpolation

Bins = Annotated[int, Interval(least=2)]


def draw_operations(key: jax.Array, space: PolicySpace, count: int, bin_index: int | None) -> PolicyOperation:
    """Draw `count` operations uniformly from `space`, with signs.

    Args:
      key: the key of the draw.
      space: the operations and their magnitudes.
      count: the number of operations.
      bin_index: the bin of every magnitude; None for uniformly drawn bins.
    """
    which, bins, sign = jax.random.split(key, 3)
    index = jax.random.randint(which, (count,), 0, len(space.names), jnp.int32)
    bin_indices = jax.random.randint(bins, (count,), 0, space.magnitudes.shape[1], jnp.int32)
    if bin_index is not None:
        bin_indices = jnp.full((count,), bin_index, jnp.int32)
    return select_operations(space, index, bin_indices, jax.random.bernoulli(sign, 0.5, (count,)))


def draw_sub_policy(key: jax.Array, policy: str, space: PolicySpace) -> PolicyOperation:
    """Draw the two operations of a sub-policy of `policy`; one that is not applied becomes the identity."""
    names, probabilities, bins = POLICIES[policy]
    index = np.array([[space.names.index(name) for name in row] for row in names], np.int32)
    which, chance, sign = jax.random.split(key, 3)
    row = jax.random.randint(which, (), 0, len(names), jnp.int32)
    pair = 2 * row + jnp.arange(2, dtype=jnp.int32)
    applied = jax.random.bernoulli(chance, take_by_comparison(probabilities.reshape(-1), pair))
    chosen = jnp.where(applied, take_by_comparison(index.reshape(-1), pair), space.names.index("identity"))
    return select_operations(
        space, chosen, take_by_comparison(bins.reshape(-1), pair), jax.random.bernoulli(sign, 0.5, (2,))
    )


def autoaugment(
    policy: Literal["cifar10", "imagenet", "svhn"] = "imagenet",
    interpolation: Interpolation = "nearest",
    fill: Fill = 0.0,
) -> Augmentation:
    """Apply one of the 25 sub-policies of AutoAugment, drawn uniformly.

    Args:
      policy: the data set on which the sub-policies were found.
      interpolation: the resampling method of geometric operations.
      fill: the value outside the image.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> image = jnp.array([[10, 80], [150, 220]], jnp.uint8)[..., None]
      >>> augment = jaxtrain.augment.autoaugment("cifar10")
      >>> jax.jit(augment)(jax.random.key(4), image)[..., 0].tolist()
      [[0, 85], [170, 255]]
    """

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        space = autoaugment_space(image.shape)
        operations = draw_sub_policy(key, policy, space)
        return operations_given(space.names, operations, image, interpolation, fill)

    return augment


def randaugment(
    n: PositiveInt = 2,
    m: NonNegativeInt = 9,
    bins: Bins = 31,
    interpolation: Interpolation = "nearest",
    fill: Fill = 0.0,
) -> Augmentation:
    """Apply `n` of 14 operations in sequence, all with the same magnitude.

    Args:
      n: the number of operations.
      m: the magnitude, from 0 to `bins - 1`.
      bins: the number of magnitudes in an operation's range.
      interpolation: the resampling method of geometric operations.
      fill: the value outside the image.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> image = jnp.array([[10, 80], [150, 220]], jnp.uint8)[..., None]
      >>> augment = jaxtrain.augment.randaugment(n=2, m=9)
      >>> jax.jit(augment)(jax.random.key(1), image)[..., 0].tolist()
      [[0, 71], [159, 248]]
    """
    if m >= bins:
        raise ValueError(f"m={m} must be from 0 to {bins - 1} for bins={bins}")

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        space = randaugment_space(image.shape, bins=bins)
        return operations_given(space.names, draw_operations(key, space, n, m), image, interpolation, fill)

    return augment


def trivialaugment(bins: Bins = 31, interpolation: Interpolation = "nearest", fill: Fill = 0.0) -> Augmentation:
    """Apply one of 14 operations, with a magnitude drawn from a wide range.

    Args:
      bins: the number of magnitudes in an operation's range.
      interpolation: the resampling method of geometric operations.
      fill: the value outside the image.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> image = jnp.array([[10, 80], [150, 220]], jnp.uint8)[..., None]
      >>> augment = jaxtrain.augment.trivialaugment()
      >>> jax.jit(augment)(jax.random.key(1), image)[..., 0].tolist()
      [[0, 51], [179, 255]]
    """

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        space = trivialaugment_space(image.shape, bins=bins)
        return operations_given(space.names, draw_operations(key, space, 1, None), image, interpolation, fill)

    return augment
