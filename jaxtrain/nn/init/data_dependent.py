"""Initializations that use training images, in the form that configs name; see `jaxtrain list initializations`."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn

from jaxtrain.annotations import NonNegativeFloat, PositiveFloat, PositiveInt
from jaxtrain.nn.init.lsuv import lsuv as scale_layers
from jaxtrain.nn.init.patch_whitening import whiten_first_layer
from jaxtrain.nn.init.within_layer import Filters
from jaxtrain.nn.init.within_layer import within_layer as scale_channels


@dataclasses.dataclass(frozen=True)
class Initialization:
    """An initialization of a run's variables from training images.

    Attributes:
      examples: the number of images, the first ones of the training split; all of them if there are fewer.
      variables: the function `(model, key, images f[N, H, W, C]) -> variables`, with preprocessed images without
        augmentation.
    """

    examples: int
    variables: Callable[[nn.Module, jax.Array, Any], dict[str, Any]]


def whiten_patches(examples: PositiveInt = 5000, epsilon: NonNegativeFloat = 5e-4) -> Initialization:
    """Build the initialization of the first convolution that whitens its input patches; see `whiten_first_layer`.

    Args:
      examples: the number of images, the first ones of the training split, whose patches are used.
      epsilon: the number that is added to the variances, so that components of noise are not amplified.

    Example:
      >>> import flax, jax, jax.numpy as jnp, jaxtrain
      >>> class Net(flax.linen.Module):
      ...     @flax.linen.compact
      ...     def __call__(self, images, *, train):
      ...         return flax.linen.Conv(4, (1, 1), name="conv")(images)
      >>> values = jnp.linspace(-1.0, 1.0, 16).reshape(4, 2, 2, 1)
      >>> images = jnp.concatenate([values, 1 + values**2], axis=-1)
      >>> initialization = jaxtrain.nn.init.INITIALIZATIONS.create("whiten_patches", examples=4)
      >>> variables = initialization.variables(Net(), jax.random.key(0), images)
      >>> outputs = Net().apply(variables, images, train=False)[..., :2].reshape(-1, 2)
      >>> print(abs(outputs.T @ outputs / 16).round(1))
      [[1. 0.]
       [0. 1.]]
    """
    return Initialization(examples, lambda model, key, images: whiten_first_layer(model, key, images, epsilon=epsilon))


def lsuv(
    examples: PositiveInt = 256, tolerance: PositiveFloat = 0.1, max_iterations: PositiveInt = 10
) -> Initialization:
    """Build the initialization with orthonormal kernels, scaled to outputs of variance 1; see `jaxtrain.nn.lsuv`.

    Args:
      examples: the number of images in the batch that the variance is measured on.
      tolerance: the greatest difference of a layer's variance from 1.
      max_iterations: the greatest number of divisions per layer.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> model = jaxtrain.models.mlp(num_classes=3, widths=(5,))
      >>> images = jnp.linspace(-1.0, 1.0, 32).reshape(4, 2, 2, 2)
      >>> initialization = jaxtrain.nn.init.INITIALIZATIONS.create("lsuv", examples=4, tolerance=0.01)
      >>> variables = initialization.variables(model, jax.random.key(0), images)
      >>> print(f"{model.apply(variables, images, train=False).var():.2f}")
      1.00
    """
    settings: dict[str, Any] = {"tolerance": tolerance, "max_iterations": max_iterations}
    return Initialization(examples, lambda model, key, images: scale_layers(model, key, images, **settings))


def within_layer(
    examples: PositiveInt = 256, filters: Filters = "gaussian", mean: float = 0.0, patches: PositiveInt = 10_000
) -> Initialization:
    """Build the initialization with the same mean and variance 1 in all channels; see `jaxtrain.nn.within_layer`.

    Args:
      examples: the number of images in the batch that mean and variance are measured on.
      filters: the kernels before scaling: random, or computed from the layer's inputs.
      mean: the mean of each channel.
      patches: the greatest number of patches for "pca" and "kmeans".

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> model = jaxtrain.models.mlp(num_classes=3, widths=(5,))
      >>> images = jnp.linspace(-1.0, 1.0, 32).reshape(4, 2, 2, 2)
      >>> initialization = jaxtrain.nn.init.INITIALIZATIONS.create("within_layer", examples=4, mean=0.5)
      >>> variables = initialization.variables(model, jax.random.key(0), images)
      >>> logits = model.apply(variables, images, train=False)
      >>> print(logits.mean(axis=0).round(1), logits.std(axis=0).round(1))
      [0.5 0.5 0.5] [1. 1. 1.]
    """
    settings: dict[str, Any] = {"filters": filters, "mean": mean, "patches": patches}
    return Initialization(examples, lambda model, key, images: scale_channels(model, key, images, **settings))
