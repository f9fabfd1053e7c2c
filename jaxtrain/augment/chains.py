"""AugMix: a weighted mean of the image and of several chains of operations on it (Hendrycks et al. 2020, section 3)."""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from jaxtrain.annotations import Interval, PositiveFloat, PositiveInt
from jaxtrain.augment.geometry import Augmentation
from jaxtrain.augment.levels import cast_like, to_float
from jaxtrain.augment.magnitudes import PolicySpace, augmix_space
from jaxtrain.augment.operations import PolicyOperation, operations_given, select_operations
from jaxtrain.augment.options import Fill, Interpolation

Severity = Annotated[int, Interval(least=1, most=10)]


class AugMixDraw(NamedTuple):
    """The draw of AugMix for one image.

    Attributes:
      operations: operations of shape [chains, steps].
      weights: f32[chains], the chains' weights relative to each other; their sum is 1.
      kept: f32[], the weight of the original image.
    """

    operations: PolicyOperation
    weights: jax.Array
    kept: jax.Array


def draw_augmix(
    key: jax.Array, space: PolicySpace, severity: int, chains: int, depth: int | None, alpha: float
) -> AugMixDraw:
    """Draw the operations of all chains, and the weights from Dirichlet and Beta distributions.

    Args:
      key: the key of the draw.
      space: the operations and their magnitudes.
      severity: the number of bins, from the weakest, out of which magnitudes are drawn.
      chains: the number of chains.
      depth: the number of operations in a chain; None for 1 to 3, drawn for each chain.
      alpha: the parameter of both distributions.
    """
    which_key, bin_key, sign_key, depth_key, weights_key, kept_key = jax.random.split(key, 6)
    shape = (chains, depth or 3)
    identity = len(space.names) - 1  # the last operation, which is not drawn
    index = jax.random.randint(which_key, shape, 0, identity, jnp.int32)
    if depth is None:
        length = jax.random.randint(depth_key, (chains, 1), 1, 4, jnp.int32)
        index = jnp.where(jnp.arange(3, dtype=jnp.int32).reshape(1, 3) < length, index, identity)
    bin_indices = jax.random.randint(bin_key, shape, 0, severity, jnp.int32)
    return AugMixDraw(
        operations=select_operations(space, index, bin_indices, jax.random.bernoulli(sign_key, 0.5, shape)),
        weights=jax.random.dirichlet(weights_key, jnp.full((chains,), alpha, jnp.float32), dtype=jnp.float32),
        kept=jax.random.beta(kept_key, jnp.float32(alpha), jnp.float32(alpha), dtype=jnp.float32),
    )


def augmix_given(
    draw: AugMixDraw, names: tuple[str, ...], image: jax.Array, interpolation: Interpolation, fill: Fill
) -> jax.Array:
    """Return the mean of `image[H, W, C]`, with weight `draw.kept`, and the weighted mean of the chains' results."""

    def chain(operations: PolicyOperation) -> jax.Array:
        return to_float(operations_given(names, operations, image, interpolation, fill))

    mixed = (draw.weights.reshape(-1, 1, 1, 1) * jax.vmap(chain)(draw.operations)).sum(axis=0)
    return cast_like(draw.kept * to_float(image) + (1 - draw.kept) * mixed, image)


def augmix(
    severity: Severity = 3,
    chains: PositiveInt = 3,
    depth: PositiveInt | None = None,
    alpha: PositiveFloat = 1.0,
    all_operations: bool = True,
    interpolation: Interpolation = "bilinear",
    fill: Fill = 0.0,
) -> Augmentation:
    """Mix the image with several chains of operations; the consistency loss of the paper is not part of it.

    Args:
      severity: the number of the ten magnitude bins, from the weakest, out of which magnitudes are drawn.
      chains: the number of chains.
      depth: the number of operations in a chain; None for 1 to 3, drawn for each chain.
      alpha: the parameter of the Dirichlet and Beta distributions of the weights.
      all_operations: whether to include brightness, color, contrast and sharpness, which overlap with ImageNet-C.
      interpolation: the resampling method of geometric operations.
      fill: the value outside the image.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> images, keys = jnp.zeros((4, 32, 32, 3), jnp.uint8), jax.random.split(jax.random.key(0), 4)
      >>> jax.eval_shape(jax.vmap(jaxtrain.augment.augmix(severity=3)), keys, images)
      ShapeDtypeStruct(shape=(4, 32, 32, 3), dtype=uint8)
    """

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        space = augmix_space(image.shape, all_operations=all_operations)
        draw = draw_augmix(key, space, severity, chains, depth, alpha)
        return augmix_given(draw, space.names, image, interpolation, fill)

    return augment
