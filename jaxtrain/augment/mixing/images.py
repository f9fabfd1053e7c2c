"""Mixup and CutMix: each image with a part of the one before it in the batch, each label with its share.

The order of a batch is random, so the neighbor is as good as a partner drawn anew, and no image goes to a far device.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxtrain.annotations import PositiveFloat, Probability, Steps
from jaxtrain.augment.mixing.base import Mixing, Scheduled, ScheduledProbability, Soft, at
from jaxtrain.augment.occlusion import erase_given
from jaxtrain.random import draw_by_example

Per = Literal["batch", "example"]
"""Whether all pairs of a batch share the draw, as the papers have it, or each has its own."""


class Weights(NamedTuple):
    """What stays of an example: `pixels` f32[H or 1, W or 1, 1] of each pixel, and `share` f32[] of its label."""

    pixels: jax.Array
    share: jax.Array


def mix_given(weights: Weights, batch: Soft) -> Soft:
    """The mixture of each example with the one before it, the first with the last.

    Args:
      weights: with a first axis of N, or of 1 for all examples alike.
      batch: N examples.
    """
    images, targets = batch
    pixels = weights.pixels.astype(images.dtype)
    share = weights.share[:, None]
    return Soft(
        pixels * images + (1 - pixels) * jnp.roll(images, 1, axis=0),
        share * targets + (1 - share) * jnp.roll(targets, 1, axis=0),
    )


def mixup_weights(share: jax.Array) -> Weights:
    """`share` f32[] of every pixel."""
    return Weights(share.reshape(1, 1, 1), share)


def cutmix_weights(share: jax.Array, center: jax.Array, height: int, width: int) -> Weights:
    """1 outside a rectangle and 0 inside, where the other image shows; the label weighs what is left of the area.

    The rectangle has sqrt(1 - share) of the image's sides, rounded down to whole pixels and to even ones, and is cut
    off where it reaches beyond them (Yun et al. 2019, equation 2 and the authors' code).

    Args:
      share: f32[], what is to stay of the image.
      center: int32[2], row and column.
      height: of the images.
      width: of the images.
    """
    root = jnp.sqrt(1 - share)
    half_rows, half_columns = ((side * root).astype(jnp.int32) // 2 for side in (height, width))
    box = (center[0] - half_rows, center[1] - half_columns, 2 * half_rows, 2 * half_columns)
    pixels = erase_given(box, jnp.ones((height, width, 1), jnp.float32), jnp.zeros((), jnp.float32))
    return Weights(pixels, pixels.mean())


def draw_share(key: jax.Array, alpha: float) -> jax.Array:
    """f32[] of a Beta(alpha, alpha) distribution."""
    if alpha == 1:
        return jax.random.uniform(key, (), jnp.float32)
    number = jnp.float32(alpha)
    return jax.random.beta(key, number, number, (), jnp.float32)


def draw_mixup(key: jax.Array, alpha: float) -> Weights:
    """The weights of mixup."""
    return mixup_weights(draw_share(key, alpha))


def draw_cutmix(key: jax.Array, alpha: float, height: int, width: int) -> Weights:
    """The weights of CutMix, with a center drawn among all pixels."""
    size, place = jax.random.split(key)
    center = jax.random.randint(place, (2,), 0, jnp.array([height, width], jnp.int32), jnp.int32)
    return cutmix_weights(draw_share(size, alpha), center, height, width)


def mixup(
    alpha: PositiveFloat = 0.2, probability: ScheduledProbability = 1.0, until: Steps | None = None, per: Per = "batch"
) -> Mixing:
    """Averages each image and label with another's: x = w x1 + (1 - w) x2, w drawn from Beta(alpha, alpha).

    Args:
      alpha: 0.2 for ImageNet and 1 for CIFAR in the paper; small ones leave most images nearly as they are.
      probability: of doing it.
      until: the step from which on it is not done.
      per: what a draw is for.
    """
    return _mixing(lambda key, height, width: draw_mixup(key, alpha), probability, until, per)


def cutmix(
    alpha: PositiveFloat = 1.0, probability: ScheduledProbability = 1.0, until: Steps | None = None, per: Per = "batch"
) -> Mixing:
    """Puts a rectangle of another image into each, of an area 1 - w with w drawn from Beta(alpha, alpha).

    Args:
      alpha: 1 in the paper: all areas alike.
      probability: of doing it; 1 for ImageNet and 0.5 for CIFAR in the authors' code.
      until: the step from which on it is not done.
      per: what a draw is for.
    """
    return _mixing(lambda key, height, width: draw_cutmix(key, alpha, height, width), probability, until, per)


def mixup_or_cutmix(
    mixup_alpha: PositiveFloat = 0.8,
    cutmix_alpha: PositiveFloat = 1.0,
    cutmix_share: Probability = 0.5,
    probability: ScheduledProbability = 1.0,
    until: Steps | None = None,
    per: Per = "batch",
) -> Mixing:
    """Mixup or CutMix, one of them for each draw.

    Args:
      mixup_alpha: see `mixup`.
      cutmix_alpha: see `cutmix`.
      cutmix_share: how often it is CutMix.
      probability: of doing either.
      until: the step from which on neither is done.
      per: what a draw is for.
    """

    def draw(key: jax.Array, height: int, width: int) -> Weights:
        which, averaging, cutting = jax.random.split(key, 3)
        cut, averaged = draw_cutmix(cutting, cutmix_alpha, height, width), draw_mixup(averaging, mixup_alpha)
        chosen = jax.random.bernoulli(which, cutmix_share)
        return Weights(*(jnp.where(chosen, a, b) for a, b in zip(cut, averaged, strict=True)))

    return _mixing(draw, probability, until, per)


def _mixing(
    draw: Callable[[jax.Array, int, int], Weights], probability: Scheduled, until: int | None, per: Per
) -> Mixing:
    """`draw(key, height, width)` for each pair or for all, and with a probability."""

    def mix(key: jax.Array, step: jax.Array, batch: Soft) -> Soft:
        chance = at(probability, step, until)

        def weights(own: jax.Array) -> Weights:
            coin, rest = jax.random.split(own)
            applied = jax.random.bernoulli(coin, chance)
            return Weights(*(jnp.where(applied, weight, 1) for weight in draw(rest, *batch.images.shape[1:3])))

        if per == "example":
            return mix_given(draw_by_example(weights, key, batch.images), batch)
        return mix_given(Weights(*(weight[None] for weight in weights(key))), batch)

    return mix
