"""Flips and crops: each a function of the drawn value, and a factory that draws it from an explicit key."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from jaxtrain.annotations import PositiveInt, Probability
from jaxtrain.step_context import current_context

Augmentation = Callable[[jax.Array, jax.Array], jax.Array]
"""`(key, image[H, W, C]) -> image[H, W, C]`, any dtype, shape and dtype kept; the caller maps it over the batch."""


def flip_lr_given(flip: jax.Array, image: jax.Array) -> jax.Array:
    """`image[H, W, C]` mirrored left to right where the boolean scalar `flip` is true."""
    return jnp.where(flip, image[:, ::-1], image)


def flip_lr(probability: Probability = 0.5) -> Augmentation:
    """Mirrors left to right with `probability`."""

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        return flip_lr_given(jax.random.bernoulli(key, probability), image)

    return augment


def flip_ud_given(flip: jax.Array, image: jax.Array) -> jax.Array:
    """`image[H, W, C]` mirrored upside down where the boolean scalar `flip` is true."""
    return jnp.where(flip, image[::-1], image)


def flip_ud(probability: Probability = 0.5) -> Augmentation:
    """Mirrors upside down with `probability`."""

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        return flip_ud_given(jax.random.bernoulli(key, probability), image)

    return augment


def pad_crop_given(offset: jax.Array, image: jax.Array, padding: int, mode: str) -> jax.Array:
    """Pads `image[H, W, C]` by `padding` on each side and cuts H x W at `offset` int32[2] in [0, 2 * padding]."""
    widths = ((padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(image, widths, mode="constant" if mode == "zero" else mode)
    return jax.lax.dynamic_slice(padded, (offset[0], offset[1], jnp.zeros_like(offset[0])), image.shape)


def pad_crop(padding: PositiveInt = 4, mode: Literal["zero", "reflect", "edge"] = "zero") -> Augmentation:
    """Pads by `padding` pixels and crops back to the size at a uniformly drawn offset."""

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        offset = jax.random.randint(key, (2,), 0, 2 * padding + 1)
        return pad_crop_given(offset, image, padding, mode)

    return augment


def alternating_flip_given(first: jax.Array, epoch: jax.Array, image: jax.Array) -> jax.Array:
    """`image[H, W, C]`, mirrored left to right in even epochs if the scalar `first` is true, else in odd ones."""
    return flip_lr_given(first ^ (epoch % 2 == 1), image)


def alternating_flip_lr() -> Augmentation:
    """Mirrors half of the images, drawn once, in the even epochs, and the other half in the odd ones.

    Jordan 2024, arXiv:2404.00498, section 3.6: a random flip shows half of the images the same way in two epochs on
    end, this one none. Where no epoch is known, as in test-time views, it is a random flip.
    """

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        seen = current_context().epochs
        if seen is None:
            return flip_lr_given(jax.random.bernoulli(key), image)
        return alternating_flip_given(jax.random.bernoulli(seen.key), seen.epoch, image)

    return augment
