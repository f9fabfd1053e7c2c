"""AugMix: an image mixed with what several chains of operations make of it (Hendrycks et al. 2020, section 3)."""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from jaxtrain.annotations import Interval, PositiveFloat, PositiveInt
from jaxtrain.augment.geometry import Augmentation
from jaxtrain.augment.levels import levels, like
from jaxtrain.augment.magnitudes import Space, augmix_space
from jaxtrain.augment.operations import Operation, found, operations_given
from jaxtrain.augment.options import Fill, Interpolation

Severity = Annotated[int, Interval(least=1, most=10)]


class Mixture(NamedTuple):
    """What AugMix draws for an image.

    Attributes:
      operations: of shape [chains, steps].
      weights: f32[chains], of the chains among themselves; their sum is 1.
      kept: f32[], the weight of the image as it was.
    """

    operations: Operation
    weights: jax.Array
    kept: jax.Array


def mixture(key: jax.Array, space: Space, severity: int, chains: int, depth: int | None, alpha: float) -> Mixture:
    """Draws operations out of `space` at its first `severity` bins, and the weights from Dirichlet and Beta."""
    which, bins, sign, steps, weights, kept = jax.random.split(key, 6)
    shape = (chains, depth or 3)
    identity = len(space.names) - 1  # which is the last, and is not drawn
    index = jax.random.randint(which, shape, 0, identity, jnp.int32)
    if depth is None:
        length = jax.random.randint(steps, (chains, 1), 1, 4, jnp.int32)
        index = jnp.where(jnp.arange(3, dtype=jnp.int32).reshape(1, 3) < length, index, identity)
    at = jax.random.randint(bins, shape, 0, severity, jnp.int32)
    return Mixture(
        operations=found(space, index, at, jax.random.bernoulli(sign, 0.5, shape)),
        weights=jax.random.dirichlet(weights, jnp.full((chains,), alpha, jnp.float32), dtype=jnp.float32),
        kept=jax.random.beta(kept, jnp.float32(alpha), jnp.float32(alpha), dtype=jnp.float32),
    )


def augmix_given(
    draw: Mixture, names: tuple[str, ...], image: jax.Array, interpolation: Interpolation, fill: Fill
) -> jax.Array:
    """`kept` of `image[H, W, C]`, and for the rest the weighted mean of the chains' results."""

    def chain(operations: Operation) -> jax.Array:
        return levels(operations_given(names, operations, image, interpolation, fill))

    mixed = (draw.weights.reshape(-1, 1, 1, 1) * jax.vmap(chain)(draw.operations)).sum(axis=0)
    return like(draw.kept * levels(image) + (1 - draw.kept) * mixed, image)


def augmix(
    severity: Severity = 3,
    chains: PositiveInt = 3,
    depth: PositiveInt | None = None,
    alpha: PositiveFloat = 1.0,
    all_operations: bool = True,
    interpolation: Interpolation = "bilinear",
    fill: Fill = 0.0,
) -> Augmentation:
    """Mixes the image with several chains of augmentations; the consistency loss is not part of it.

    Args:
      severity: how many of the ten bins of magnitudes are drawn from, from the weakest on.
      chains: how many.
      depth: operations in a chain; drawn from 1 to 3 where it is None.
      alpha: of the Dirichlet and Beta distributions of the weights.
      all_operations: also brightness, color, contrast and sharpness, which overlap with ImageNet-C.
      interpolation: of geometric operations.
      fill: of what they leave empty.
    """

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        space = augmix_space(image.shape, all_operations=all_operations)
        draw = mixture(key, space, severity, chains, depth, alpha)
        return augmix_given(draw, space.names, image, interpolation, fill)

    return augment
