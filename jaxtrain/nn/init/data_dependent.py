"""Initializations that look at training images, as a config names them: `jaxtrain list initializations`."""

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
    """How a run begins.

    Attributes:
      examples: the first of the training split that are looked at, all of them where there are fewer.
      variables: `(model, key, images f[N, H, W, C] as the model sees them without augmentation) -> variables`.
    """

    examples: int
    variables: Callable[[nn.Module, jax.Array, Any], dict[str, Any]]


def whiten_patches(examples: PositiveInt = 5000, epsilon: NonNegativeFloat = 5e-4) -> Initialization:
    """The first convolution whitens its input patches; see `jaxtrain.nn.init.patch_whitening.whiten_first_layer`.

    Args:
      examples: the first of the training split, whose patches are looked at.
      epsilon: added to the variances, so that components of noise are not blown up.
    """
    return Initialization(examples, lambda model, key, images: whiten_first_layer(model, key, images, epsilon=epsilon))


def lsuv(
    examples: PositiveInt = 256, tolerance: PositiveFloat = 0.1, max_iterations: PositiveInt = 10
) -> Initialization:
    """Orthonormal kernels, scaled until every layer has the variance 1; see `jaxtrain.nn.lsuv`.

    Args:
      examples: in the batch that is looked at.
      tolerance: of the variance.
      max_iterations: divisions a layer.
    """
    settings: dict[str, Any] = {"tolerance": tolerance, "max_iterations": max_iterations}
    return Initialization(examples, lambda model, key, images: scale_layers(model, key, images, **settings))


def within_layer(
    examples: PositiveInt = 256, filters: Filters = "gaussian", mean: float = 0.0, patches: PositiveInt = 10_000
) -> Initialization:
    """Every channel of every layer with the deviation 1 and the same mean; see `jaxtrain.nn.within_layer`.

    Args:
      examples: in the batch that is looked at.
      filters: what kernels begin as.
      mean: of each channel.
      patches: looked at for "pca" and "kmeans", at the most.
    """
    settings: dict[str, Any] = {"filters": filters, "mean": mean, "patches": patches}
    return Initialization(examples, lambda model, key, images: scale_channels(model, key, images, **settings))
