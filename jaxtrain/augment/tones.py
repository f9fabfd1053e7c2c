"""Changes of single pixel values: gamma, solarize, posterize, invert; and two that use the histogram of the image."""

from typing import Annotated

import jax
import jax.numpy as jnp

from jaxtrain.annotations import Interval, Probability
from jaxtrain.augment.draws import apply_with_probability, draw_log_uniform
from jaxtrain.augment.geometry import Augmentation
from jaxtrain.augment.histograms import apply_table, equalize_table, histogram
from jaxtrain.augment.levels import cast_like, nearest_levels, to_float, white_value
from jaxtrain.augment.options import Ratios, check_order

Bits = Annotated[int, Interval(least=1, most=8)]


def gamma_given(exponent: jax.Array, image: jax.Array) -> jax.Array:
    """Return `image[H, W, C]`, scaled to [0, 1], to the power `exponent`; above 1 is darker."""
    white = white_value(image)
    return cast_like(white * (to_float(image) / white) ** exponent, image)


def solarize_given(threshold: jax.Array, image: jax.Array) -> jax.Array:
    """Invert the pixels of `image[H, W, C]` that are at least `threshold`, a fraction of white."""
    return jnp.where(to_float(image) >= threshold * white_value(image), invert_given(image), image)


def posterize_given(bits: jax.Array, image: jax.Array) -> jax.Array:
    """Keep the first `bits`, int32[] in [0, 8], of the 8 bits of each value in `image[H, W, C]`; 8 changes nothing."""
    masked = nearest_levels(image) & -jnp.left_shift(1, 8 - bits)
    return jnp.where(bits >= 8, image, cast_like(masked.astype(jnp.float32) * (white_value(image) / 255), image))


def invert_given(image: jax.Array) -> jax.Array:
    """Return white minus `image[H, W, C]`."""
    return cast_like(white_value(image) - to_float(image), image)


def stretch_levels(low: jax.Array, high: jax.Array, image: jax.Array) -> jax.Array:
    """Map `low` f32[1, 1, C] to black and `high` to white in `image[H, W, C]`; channels where they are equal stay."""
    values = (to_float(image) - low) * (white_value(image) / jnp.where(high > low, high - low, 1))
    return jnp.where(high > low, cast_like(values, image), image)


def autocontrast_given(image: jax.Array) -> jax.Array:
    """Stretch each channel of `image[H, W, C]` to the full range; a constant channel stays."""
    values = to_float(image)
    return stretch_levels(values.min(axis=(0, 1), keepdims=True), values.max(axis=(0, 1), keepdims=True), image)


def equalize_given(image: jax.Array) -> jax.Array:
    """Flatten the histogram of each channel of `image[H, W, C]`.

    Floats are first rounded to the nearest of 256 levels, for which the formula is made.
    """
    result = apply_table(equalize_table(histogram(image)), image)
    return cast_like(result.astype(jnp.float32) * (white_value(image) / 255), image)


def gamma(exponents: Ratios = (0.8, 1.25), probability: Probability = 1.0) -> Augmentation:
    """Raise pixels in [0, 1] to a power drawn uniformly in its logarithm.

    Args:
      exponents: bounds of the exponent; above 1 is darker.
      probability: the probability of applying it.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> image = jnp.array([0, 64, 255], jnp.uint8).reshape(1, 3, 1)
      >>> augment = jaxtrain.augment.gamma(exponents=(2.0, 2.0))
      >>> jax.jit(augment)(jax.random.key(0), image)[0, :, 0].tolist()
      [0, 16, 255]
    """
    bounds = check_order(exponents, "exponents")
    return apply_with_probability(probability, lambda key, image: gamma_given(draw_log_uniform(key, bounds), image))


def solarize(threshold: Probability = 0.5, probability: Probability = 0.5) -> Augmentation:
    """Invert pixels that are at least as bright as a threshold.

    Args:
      threshold: the threshold, a fraction of white.
      probability: the probability of applying it.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> image = jnp.array([100, 150, 255], jnp.uint8).reshape(1, 3, 1)
      >>> augment = jaxtrain.augment.solarize(threshold=0.5, probability=1.0)
      >>> jax.jit(augment)(jax.random.key(0), image)[0, :, 0].tolist()
      [100, 105, 0]
    """
    return apply_with_probability(probability, lambda _, image: solarize_given(jnp.float32(threshold), image))


def posterize(bits: Bits = 4, probability: Probability = 0.5) -> Augmentation:
    """Keep the first `bits` of the 8 bits of each value.

    Args:
      bits: the number of bits.
      probability: the probability of applying it.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> image = jnp.array([60, 100, 200], jnp.uint8).reshape(1, 3, 1)
      >>> augment = jaxtrain.augment.posterize(bits=2, probability=1.0)
      >>> jax.jit(augment)(jax.random.key(0), image)[0, :, 0].tolist()
      [0, 64, 192]
    """
    return apply_with_probability(probability, lambda _, image: posterize_given(jnp.int32(bits), image))


def invert(probability: Probability = 0.5) -> Augmentation:
    """Invert the image: white minus each value.

    Args:
      probability: the probability of applying it.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> image = jnp.array([0, 100, 255], jnp.uint8).reshape(1, 3, 1)
      >>> augment = jaxtrain.augment.invert(probability=1.0)
      >>> jax.jit(augment)(jax.random.key(0), image)[0, :, 0].tolist()
      [255, 155, 0]
    """
    return apply_with_probability(probability, lambda _, image: invert_given(image))


def autocontrast(probability: Probability = 0.5) -> Augmentation:
    """Stretch each channel to the full range.

    Args:
      probability: the probability of applying it.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> image = jnp.array([100, 120, 200], jnp.uint8).reshape(1, 3, 1)
      >>> augment = jaxtrain.augment.autocontrast(probability=1.0)
      >>> jax.jit(augment)(jax.random.key(0), image)[0, :, 0].tolist()
      [0, 51, 255]
    """
    return apply_with_probability(probability, lambda _, image: autocontrast_given(image))


def equalize(probability: Probability = 0.5) -> Augmentation:
    """Flatten the histogram of each channel.

    Args:
      probability: the probability of applying it.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> image = jnp.repeat(jnp.array([100, 101, 102, 103], jnp.uint8), 256).reshape(32, 32, 1)
      >>> augment = jaxtrain.augment.equalize(probability=1.0)
      >>> jnp.unique(jax.jit(augment)(jax.random.key(0), image)).tolist()
      [0, 85, 171, 255]
    """
    return apply_with_probability(probability, lambda _, image: equalize_given(image))
