"""Flips and crops: each is a function of a drawn value, and a factory of a function that draws the value from a key."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from jaxtrain.annotations import PositiveInt, Probability
from jaxtrain.step_context import current_context

Augmentation = Callable[[jax.Array, jax.Array], jax.Array]
"""`(key, image[H, W, C]) -> image[H, W, C]`, with the same shape and dtype; the caller maps it over the batch."""


def flip_lr_given(flip: jax.Array, image: jax.Array) -> jax.Array:
    """Return `image[H, W, C]`, flipped left to right if the boolean scalar `flip` is true."""
    return jnp.where(flip, image[:, ::-1], image)


def flip_lr(probability: Probability = 0.5) -> Augmentation:
    """Flip the image left to right with `probability`.

    Args:
      probability: the probability that an image is changed.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> flip = jaxtrain.augment.flip_lr(probability=1.0)
      >>> image = jnp.array([1, 2, 3], jnp.uint8).reshape(1, 3, 1)
      >>> jax.jit(flip)(jax.random.key(0), image)[0, :, 0].tolist()
      [3, 2, 1]
    """

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        return flip_lr_given(jax.random.bernoulli(key, probability), image)

    return augment


def flip_ud_given(flip: jax.Array, image: jax.Array) -> jax.Array:
    """Return `image[H, W, C]`, flipped upside down if the boolean scalar `flip` is true."""
    return jnp.where(flip, image[::-1], image)


def flip_ud(probability: Probability = 0.5) -> Augmentation:
    """Flip the image upside down with `probability`.

    Args:
      probability: the probability that an image is changed.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> flip = jaxtrain.augment.flip_ud(probability=1.0)
      >>> image = jnp.array([1, 2, 3], jnp.uint8).reshape(3, 1, 1)
      >>> jax.jit(flip)(jax.random.key(0), image)[:, 0, 0].tolist()
      [3, 2, 1]
    """

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        return flip_ud_given(jax.random.bernoulli(key, probability), image)

    return augment


def pad_crop_given(offset: jax.Array, image: jax.Array, padding: int, mode: str) -> jax.Array:
    """Pad `image[H, W, C]` by `padding` on each side and cut H x W at `offset`, int32[2] in [0, 2 * padding]."""
    widths = ((padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(image, widths, mode="constant" if mode == "zero" else mode)
    return jax.lax.dynamic_slice(padded, (offset[0], offset[1], jnp.zeros_like(offset[0])), image.shape)


def pad_crop(padding: PositiveInt = 4, mode: Literal["zero", "reflect", "edge"] = "zero") -> Augmentation:
    """Pad by `padding` pixels on each side and crop to the original size at a uniformly drawn offset.

    Args:
      padding: the number of pixels.
      mode: the content of the padding: zeros, the image reflected about its edge pixels, or the nearest edge pixel.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> crop = jaxtrain.augment.pad_crop(padding=1)
      >>> image = jnp.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], jnp.uint8)[..., None]
      >>> jax.jit(crop)(jax.random.key(0), image)[..., 0].tolist()
      [[0, 1, 2], [0, 4, 5], [0, 7, 8]]
    """

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        offset = jax.random.randint(key, (2,), 0, 2 * padding + 1)
        return pad_crop_given(offset, image, padding, mode)

    return augment


def alternating_flip_given(first: jax.Array, epoch: jax.Array, image: jax.Array) -> jax.Array:
    """Return `image[H, W, C]`, flipped left to right in even epochs if the scalar `first` is true, else in odd ones."""
    return flip_lr_given(first ^ (epoch % 2 == 1), image)


def alternating_flip_lr() -> Augmentation:
    """Flip each image left to right in every second epoch: a random half in even epochs, the rest in odd ones.

    See Jordan 2024, arXiv:2404.00498, section 3.6. A random flip shows half of the images the same way in two
    consecutive epochs; this one shows none. If the epoch is unknown, as in test-time augmentation, it is a random flip.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> from jaxtrain.step_context import ExampleEpochs, narrow_context
      >>> image = jnp.array([1, 2, 3], jnp.uint8).reshape(1, 3, 1)
      >>> for epoch in range(3):  # in a run, the loader sets the context
      ...     with narrow_context(epochs=ExampleEpochs(jax.random.key(0), jnp.int32(epoch))):
      ...         print(jaxtrain.augment.alternating_flip_lr()(jax.random.key(epoch), image)[0, :, 0])
      [1 2 3]
      [3 2 1]
      [1 2 3]
    """

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        seen = current_context().epochs
        if seen is None:
            return flip_lr_given(jax.random.bernoulli(key), image)
        return alternating_flip_given(jax.random.bernoulli(seen.key), seen.epoch, image)

    return augment
