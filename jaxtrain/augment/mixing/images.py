"""Mixup and CutMix: combinations of each image and label with those of the previous example in the batch.

The order of a batch is random, so the neighbor is as good as a partner drawn at random. No image moves to a distant
device.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxtrain.annotations import PositiveFloat, Probability, Steps
from jaxtrain.augment.mixing.base import Mixing, Scheduled, ScheduledProbability, SoftBatch, value_at_step
from jaxtrain.augment.occlusion import erase_given
from jaxtrain.random import draw_per_example

Per = Literal["batch", "example"]
"""The scope of a draw: all pairs of a batch, as in the papers, or each pair."""


class MixWeights(NamedTuple):
    """The weights of an example in its mixture.

    Attributes:
      pixels: f32[H or 1, W or 1, 1], the weight of each pixel.
      share: f32[], the weight of the label.
    """

    pixels: jax.Array
    share: jax.Array


def mix_given(weights: MixWeights, batch: SoftBatch) -> SoftBatch:
    """Mix each example with the one before it, and the first with the last.

    Args:
      weights: the weights, with a first axis of N, or of 1 for equal weights in all examples.
      batch: N examples.
    """
    images, targets = batch
    pixels = weights.pixels.astype(images.dtype)
    share = weights.share[:, None]
    return SoftBatch(
        pixels * images + (1 - pixels) * jnp.roll(images, 1, axis=0),
        share * targets + (1 - share) * jnp.roll(targets, 1, axis=0),
    )


def mixup_weights(share: jax.Array) -> MixWeights:
    """Return the weight `share` f32[] for every pixel and for the label."""
    return MixWeights(share.reshape(1, 1, 1), share)


def cutmix_weights(share: jax.Array, center: jax.Array, height: int, width: int) -> MixWeights:
    """Return the weights of CutMix: 1 outside a rectangle, and 0 inside, where the other image shows.

    The weight of the label is the remaining area. The rectangle's sides are sqrt(1 - share) of the image's, rounded
    down to even numbers of pixels. The rectangle is clipped to the image (Yun et al. 2019, equation 2 and the authors'
    code).

    Args:
      share: f32[], the share of the image to keep.
      center: int32[2], row and column.
      height: the images' height.
      width: the images' width.
    """
    root = jnp.sqrt(1 - share)
    half_rows, half_columns = ((side * root).astype(jnp.int32) // 2 for side in (height, width))
    box = (center[0] - half_rows, center[1] - half_columns, 2 * half_rows, 2 * half_columns)
    pixels = erase_given(box, jnp.ones((height, width, 1), jnp.float32), jnp.zeros((), jnp.float32))
    return MixWeights(pixels, pixels.mean())


def draw_share(key: jax.Array, alpha: float) -> jax.Array:
    """Draw f32[] from a Beta(alpha, alpha) distribution."""
    if alpha == 1:
        return jax.random.uniform(key, (), jnp.float32)
    number = jnp.float32(alpha)
    return jax.random.beta(key, number, number, (), jnp.float32)


def draw_mixup(key: jax.Array, alpha: float) -> MixWeights:
    """Draw the weights of mixup."""
    return mixup_weights(draw_share(key, alpha))


def draw_cutmix(key: jax.Array, alpha: float, height: int, width: int) -> MixWeights:
    """Draw the weights of CutMix, with a center drawn from all pixels."""
    share_key, center_key = jax.random.split(key)
    center = jax.random.randint(center_key, (2,), 0, jnp.array([height, width], jnp.int32), jnp.int32)
    return cutmix_weights(draw_share(share_key, alpha), center, height, width)


def mixup(
    alpha: PositiveFloat = 0.2, probability: ScheduledProbability = 1.0, until: Steps | None = None, per: Per = "batch"
) -> Mixing:
    """Average each image and label with another one: x = w x1 + (1 - w) x2, with w drawn from Beta(alpha, alpha).

    Args:
      alpha: the parameter of the distribution, in the paper 0.2 for ImageNet and 1 for CIFAR; small values leave most
        images nearly unchanged.
      probability: the probability that a step applies it.
      until: the step at which it is switched off; None keeps it on.
      per: whether a draw is for the whole batch ("batch") or for each example ("example").

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain.augment.mixing
      >>> from jaxtrain.augment.mixing.base import SoftBatch
      >>> batch = SoftBatch(images=jnp.zeros((2, 4, 6, 1)).at[1].set(1), targets=jnp.eye(2))
      >>> mix = jax.jit(jaxtrain.augment.mixing.mixup(alpha=1.0))
      >>> mixed = mix(jax.random.key(1), jnp.int32(0), batch)
      >>> [round(float(p), 2) for p in mixed.targets[0]]
      [0.4, 0.6]
    """
    return _make_mixing(lambda key, height, width: draw_mixup(key, alpha), probability, until, per)


def cutmix(
    alpha: PositiveFloat = 1.0, probability: ScheduledProbability = 1.0, until: Steps | None = None, per: Per = "batch"
) -> Mixing:
    """Paste a rectangle of another image into each image, of area 1 - w with w drawn from Beta(alpha, alpha).

    Args:
      alpha: the parameter of the distribution; 1 in the paper, where all areas are equally likely.
      probability: the probability of applying it; 1 for ImageNet and 0.5 for CIFAR in the authors' code.
      until: the step at which it is switched off; None keeps it on.
      per: whether a draw is for the whole batch ("batch") or for each example ("example").

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain.augment.mixing
      >>> from jaxtrain.augment.mixing.base import SoftBatch
      >>> batch = SoftBatch(images=jnp.zeros((2, 4, 6, 1)).at[1].set(1), targets=jnp.eye(2))
      >>> mix = jax.jit(jaxtrain.augment.mixing.cutmix())
      >>> mixed = mix(jax.random.key(4), jnp.int32(0), batch)
      >>> print(mixed.images[0, ..., 0])
      [[0. 0. 0. 0. 0. 0.]
       [0. 0. 0. 0. 0. 0.]
       [0. 1. 1. 1. 1. 0.]
       [0. 1. 1. 1. 1. 0.]]
      >>> [round(float(p), 2) for p in mixed.targets[0]]
      [0.67, 0.33]
    """
    return _make_mixing(lambda key, height, width: draw_cutmix(key, alpha, height, width), probability, until, per)


def mixup_or_cutmix(
    mixup_alpha: PositiveFloat = 0.8,
    cutmix_alpha: PositiveFloat = 1.0,
    cutmix_share: Probability = 0.5,
    probability: ScheduledProbability = 1.0,
    until: Steps | None = None,
    per: Per = "batch",
) -> Mixing:
    """Apply mixup or CutMix, chosen by each draw.

    Args:
      mixup_alpha: the alpha of `mixup`.
      cutmix_alpha: the alpha of `cutmix`.
      cutmix_share: the probability of CutMix when either is applied.
      probability: the probability of applying either.
      until: the step from which on both are off; None for never.
      per: whether a draw is for the whole batch ("batch") or for each example ("example").

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain.augment.mixing
      >>> from jaxtrain.augment.mixing.base import SoftBatch
      >>> batch = SoftBatch(images=jnp.zeros((2, 4, 6, 1)).at[1].set(1), targets=jnp.eye(2))
      >>> mix = jax.jit(jaxtrain.augment.mixing.mixup_or_cutmix(mixup_alpha=1.0, cutmix_share=0.5))
      >>> mixed = mix(jax.random.key(2), jnp.int32(0), batch)
      >>> [round(float(p), 2) for p in mixed.targets[0]]
      [0.64, 0.36]
    """

    def draw(key: jax.Array, height: int, width: int) -> MixWeights:
        choice_key, mixup_key, cutmix_key = jax.random.split(key, 3)
        cut, average = draw_cutmix(cutmix_key, cutmix_alpha, height, width), draw_mixup(mixup_key, mixup_alpha)
        use_cutmix = jax.random.bernoulli(choice_key, cutmix_share)
        return MixWeights(*(jnp.where(use_cutmix, a, b) for a, b in zip(cut, average, strict=True)))

    return _make_mixing(draw, probability, until, per)


def _make_mixing(
    draw: Callable[[jax.Array, int, int], MixWeights], probability: Scheduled, until: int | None, per: Per
) -> Mixing:
    """Return a function that mixes pairs of images with weights from `draw(key, height, width)`."""

    def mix(key: jax.Array, step: jax.Array, batch: SoftBatch) -> SoftBatch:
        current_probability = value_at_step(probability, step, until)

        def draw_weights(key: jax.Array) -> MixWeights:
            coin, rest = jax.random.split(key)
            applied = jax.random.bernoulli(coin, current_probability)
            return MixWeights(*(jnp.where(applied, weight, 1) for weight in draw(rest, *batch.images.shape[1:3])))

        if per == "example":
            return mix_given(draw_per_example(draw_weights, key, batch.images), batch)
        return mix_given(MixWeights(*(weight[None] for weight in draw_weights(key))), batch)

    return mix
