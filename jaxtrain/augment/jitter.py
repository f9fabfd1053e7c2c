"""Brightness, contrast, saturation and hue one after the other, in an order drawn for each image."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxtrain.annotations import Probability
from jaxtrain.augment.color import hue_given
from jaxtrain.augment.draws import sometimes, uniforms
from jaxtrain.augment.geometry import Augmentation
from jaxtrain.augment.levels import blend, grey, levels, like
from jaxtrain.augment.options import Strength, Turns, about_one, both_ways


class Jitter(NamedTuple):
    """What is done to an image, in the order of the fields unless another is drawn.

    Attributes:
      brightness: factor, f32[].
      contrast: factor, f32[].
      saturation: factor, f32[].
      hue: part of the color circle, f32[].
    """

    brightness: jax.typing.ArrayLike
    contrast: jax.typing.ArrayLike
    saturation: jax.typing.ArrayLike
    hue: jax.typing.ArrayLike


def color_jitter_given(draw: Jitter, image: jax.Array, order: jax.Array | None = None) -> jax.Array:
    """`image[H, W, C]` with the four changes of `draw`.

    Args:
      draw: how much.
      image: uint8, or floats in [0, 1].
      order: int32[4], a permutation of the fields; theirs where it is None.
    """
    factors = jnp.stack([jnp.asarray(v, jnp.float32) for v in draw])
    places = jnp.arange(4, dtype=jnp.int32) if order is None else order
    # A loop, since XLA would otherwise compute a change anew for each use that the next one makes of it.
    return jax.lax.scan(lambda image, which: (_one_change(which, factors, image), None), image, places)[0]


def _one_change(which: jax.Array, factors: jax.Array, image: jax.Array) -> jax.Array:
    """The change `which`. The first three mix the image with another, so that only that other is chosen."""
    values = levels(image)
    luma = grey(values)
    other = jnp.where(which == 0, 0, jnp.where(which == 1, luma.mean(keepdims=True), luma))
    mixed = like(blend(factors[which], values, other), image)
    return jnp.where(which == 3, hue_given(factors[3], image), mixed)


def color_jitter(
    brightness: Strength = 0.4,
    contrast: Strength = 0.4,
    saturation: Strength = 0.4,
    hue: Turns = 0.1,
    random_order: bool = True,
    probability: Probability = 1.0,
) -> Augmentation:
    """Changes brightness, contrast, saturation and hue by one draw each, as torchvision's ColorJitter.

    Args:
      brightness: range of its factor.
      contrast: range of its factor.
      saturation: range of its factor.
      hue: range of its turn.
      random_order: whether to draw the order for each image.
      probability: of doing it at all.
    """
    strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    ranges = [about_one(strength, name) for name, strength in strengths.items()]
    ranges.append(both_ways(hue, "hue"))

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        shuffle, amounts = jax.random.split(key)
        draw = Jitter(*uniforms(amounts, *ranges))
        order = jax.random.permutation(shuffle, 4) if random_order else None
        return color_jitter_given(draw, image, order)

    return sometimes(probability, augment)
