"""Brightness, contrast, saturation and hue.

Factors have the meaning that they have in Pillow's ImageEnhance and in torchvision. Images have 1 or 3 channels. An
image of one channel has no color, so saturation and hue leave it unchanged.
"""

import jax
import jax.numpy as jnp

from jaxtrain.annotations import Probability
from jaxtrain.augment.draws import apply_with_probability, draw_uniform
from jaxtrain.augment.geometry import Augmentation
from jaxtrain.augment.levels import blend, cast_like, luma, to_float, white_value
from jaxtrain.augment.options import Strength, Turns, factor_range, symmetric_range


def brightness_given(factor: jax.Array, image: jax.Array) -> jax.Array:
    """Return `image[H, W, C]` times `factor`: 0 gives black, 1 the image."""
    return cast_like(to_float(image) * factor, image)


def contrast_given(factor: jax.Array, image: jax.Array) -> jax.Array:
    """Blend `image[H, W, C]` with the mean of its luma: factor 0 gives plain gray, 1 the image."""
    return contrast_about(luma(to_float(image)).mean(keepdims=True), factor, image)


def contrast_about(middle: jax.Array, factor: jax.Array, image: jax.Array) -> jax.Array:
    """Blend `image[H, W, C]` with the gray value `middle` f32[1, 1, 1]."""
    return cast_like(blend(factor, to_float(image), middle), image)


def saturation_given(factor: jax.Array, image: jax.Array) -> jax.Array:
    """Blend `image[H, W, C]` with its luma: factor 0 gives a grayscale image, 1 the image itself."""
    values = to_float(image)
    return cast_like(blend(factor, values, luma(values)), image)


def hue_given(turn: jax.Array, image: jax.Array) -> jax.Array:
    """Rotate the hues of `image[H, W, C]` by the fraction `turn` of the color circle (HSV); 0 and 1 change nothing."""
    if image.shape[2] == 1:
        return image
    luma(to_float(image))  # raises for images of other channels
    red, green, blue = (to_float(image)[:, :, i] / white_value(image) for i in range(3))
    value = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
    over = 1 / jnp.where(chroma == 0, 1, chroma)
    sixths = jnp.where(
        value == red,
        (green - blue) * over,
        jnp.where(value == green, 2 + (blue - red) * over, 4 + (red - green) * over),
    )

    def channel(offset: int) -> jax.Array:
        angle = sixths + 6 * turn + offset
        angle = angle - 6 * jnp.floor(angle / 6)  # the remainder by 6; `%` is a slow loop on a CPU
        return value - chroma * jnp.clip(jnp.minimum(angle, 4 - angle), 0, 1)

    return cast_like(jnp.stack([channel(5), channel(3), channel(1)], axis=-1) * white_value(image), image)


def random_gray_given(gray: jax.Array, image: jax.Array) -> jax.Array:
    """Return `image[H, W, C]`, with its luma in each channel if the boolean scalar `gray` is true."""
    values = to_float(image)
    return jnp.where(gray, cast_like(jnp.broadcast_to(luma(values), values.shape), image), image)


def brightness(strength: Strength = 0.4, probability: Probability = 1.0) -> Augmentation:
    """Multiply all pixels by one factor.

    Args:
      strength: the range of the factor; 0 is black, 1 the image.
      probability: the probability of applying it.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> image = jnp.array([10, 20, 200], jnp.uint8).reshape(1, 3, 1)
      >>> augment = jaxtrain.augment.brightness(strength=(2.0, 2.0))
      >>> jax.jit(augment)(jax.random.key(0), image)[0, :, 0].tolist()
      [20, 40, 255]
    """
    bounds = factor_range(strength, "strength")
    return apply_with_probability(probability, lambda key, image: brightness_given(draw_uniform(key, bounds), image))


def contrast(strength: Strength = 0.4, probability: Probability = 1.0) -> Augmentation:
    """Blend the image with its mean luma by one factor.

    Args:
      strength: the range of the factor; 0 is plain gray, 1 the image.
      probability: the probability of applying it.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> image = jnp.array([90, 100, 110], jnp.uint8).reshape(1, 3, 1)
      >>> augment = jaxtrain.augment.contrast(strength=(2.0, 2.0))
      >>> jax.jit(augment)(jax.random.key(0), image)[0, :, 0].tolist()
      [80, 100, 120]
    """
    bounds = factor_range(strength, "strength")
    return apply_with_probability(probability, lambda key, image: contrast_given(draw_uniform(key, bounds), image))


def saturation(strength: Strength = 0.4, probability: Probability = 1.0) -> Augmentation:
    """Blend each pixel with its luma by one factor.

    Args:
      strength: the range of the factor; 0 is black and white, 1 the image.
      probability: the probability of applying it.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> image = jnp.array([200, 100, 100], jnp.uint8).reshape(1, 1, 3)  # one RGB pixel
      >>> augment = jaxtrain.augment.saturation(strength=(0.0, 0.0))
      >>> jax.jit(augment)(jax.random.key(0), image)[0, 0].tolist()
      [130, 130, 130]
    """
    bounds = factor_range(strength, "strength")
    return apply_with_probability(probability, lambda key, image: saturation_given(draw_uniform(key, bounds), image))


def hue(turns: Turns = 0.1, probability: Probability = 1.0) -> Augmentation:
    """Rotate all hues by one fraction of the color circle.

    Args:
      turns: the range of the fraction.
      probability: the probability of applying it.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> image = jnp.array([200, 100, 100], jnp.uint8).reshape(1, 1, 3)  # one RGB pixel
      >>> augment = jaxtrain.augment.hue(turns=(0.5, 0.5))
      >>> jax.jit(augment)(jax.random.key(0), image)[0, 0].tolist()
      [100, 200, 200]
    """
    bounds = symmetric_range(turns, "turns")
    return apply_with_probability(probability, lambda key, image: hue_given(draw_uniform(key, bounds), image))


def random_gray(probability: Probability = 0.1) -> Augmentation:
    """Replace the colors by luma with `probability`; the number of channels stays the same.

    Args:
      probability: the probability that an image is changed.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> image = jnp.array([200, 100, 100], jnp.uint8).reshape(1, 1, 3)  # one RGB pixel
      >>> augment = jaxtrain.augment.random_gray(probability=1.0)
      >>> jax.jit(augment)(jax.random.key(0), image)[0, 0].tolist()
      [130, 130, 130]
    """

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        return random_gray_given(jax.random.bernoulli(key, probability), image)

    return augment
