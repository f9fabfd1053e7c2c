"""Color jitter: brightness, contrast, saturation and hue in sequence, in an order drawn for each image."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxtrain.annotations import Probability
from jaxtrain.augment.color import hue_given
from jaxtrain.augment.draws import apply_with_probability, draw_uniforms
from jaxtrain.augment.geometry import Augmentation
from jaxtrain.augment.levels import blend, cast_like, luma, to_float
from jaxtrain.augment.options import Strength, Turns, factor_range, symmetric_range


class Jitter(NamedTuple):
    """The changes of an image, applied in the order of the fields unless another order is drawn.

    Attributes:
      brightness: factor, f32[].
      contrast: factor, f32[].
      saturation: factor, f32[].
      hue: fraction of the color circle, f32[].
    """

    brightness: jax.typing.ArrayLike
    contrast: jax.typing.ArrayLike
    saturation: jax.typing.ArrayLike
    hue: jax.typing.ArrayLike


def color_jitter_given(draw: Jitter, image: jax.Array, order: jax.Array | None = None) -> jax.Array:
    """Apply the four changes of `draw` to `image[H, W, C]`.

    Args:
      draw: the factors.
      image: uint8, or floats in [0, 1].
      order: int32[4], a permutation of the fields; None for their own order.
    """
    factors = jnp.stack([jnp.asarray(v, jnp.float32) for v in draw])
    indices = jnp.arange(4, dtype=jnp.int32) if order is None else order
    # A loop: without it, XLA computes each change again for every use in the next change.
    return jax.lax.scan(lambda image, index: (_apply_change(index, factors, image), None), image, indices)[0]


def _apply_change(index: jax.Array, factors: jax.Array, image: jax.Array) -> jax.Array:
    """Apply the change `index`. The first three blend the image with another one, so only that one is selected."""
    values = to_float(image)
    gray = luma(values)
    other = jnp.where(index == 0, 0, jnp.where(index == 1, gray.mean(keepdims=True), gray))
    mixed = cast_like(blend(factors[index], values, other), image)
    return jnp.where(index == 3, hue_given(factors[3], image), mixed)


def color_jitter(
    brightness: Strength = 0.4,
    contrast: Strength = 0.4,
    saturation: Strength = 0.4,
    hue: Turns = 0.1,
    random_order: bool = True,
    probability: Probability = 1.0,
) -> Augmentation:
    """Change brightness, contrast, saturation and hue by one draw each, as torchvision's ColorJitter does.

    Args:
      brightness: range of the factor; see `jaxtrain.augment.brightness`.
      contrast: range of the factor; see `jaxtrain.augment.contrast`.
      saturation: range of the factor; see `jaxtrain.augment.saturation`.
      hue: range of the fraction of the color circle; see `jaxtrain.augment.hue`.
      random_order: whether to draw the order for each image.
      probability: the probability of applying it.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> image = jnp.array([60, 40, 40], jnp.uint8).reshape(1, 1, 3)  # one RGB pixel
      >>> augment = jaxtrain.augment.color_jitter(brightness=(2.0, 2.0), contrast=0.0, saturation=0.0, hue=(0.5, 0.5))
      >>> jax.jit(augment)(jax.random.key(0), image)[0, 0].tolist()
      [80, 120, 120]
    """
    strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    ranges = [factor_range(strength, name) for name, strength in strengths.items()]
    ranges.append(symmetric_range(hue, "hue"))

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        shuffle, amounts = jax.random.split(key)
        draw = Jitter(*draw_uniforms(amounts, *ranges))
        order = jax.random.permutation(shuffle, 4) if random_order else None
        return color_jitter_given(draw, image, order)

    return apply_with_probability(probability, augment)
