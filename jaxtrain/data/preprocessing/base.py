"""The interfaces of preprocessing: a recipe, which is fitted to images, and the fixed function that fitting returns."""

import abc
from collections.abc import Iterable
from typing import Any, Protocol

import jax
import numpy as np

Batches = Iterable[np.ndarray]
"""Arrays uint8[N, H, W, C]; they are iterated once, so that the data set may be larger than memory."""


class Preprocessing(Protocol):
    """A fitted preprocessing function, the same for training, evaluation and prediction."""

    def apply(self, images: jax.Array) -> jax.Array:
        """Return the model's input f32[..., H, W, C] for `images` uint8[..., H, W, C], or floats in [0, 255]."""
        ...

    def inverse(self, values: jax.Array) -> jax.Array:
        """Return the pixels of `values` f32[..., H, W, C], clipped to [0, 1], for display.

        Information that `apply` removed (components, constant pixels) is replaced by the training images' mean.
        """
        ...


class PreprocessingFitter(abc.ABC):
    """A kind of preprocessing with its options, before fitting."""

    padded = True
    """Whether it is fitted to images padded by `data.pad`; preprocessing per channel is not."""

    looks = True
    """Whether fitting depends on the pixel values, not only on the number of channels."""

    def check(self, image_shape: tuple[int, int, int]) -> None:
        """Raise `ValueError` if images of this height, width and channels are not supported."""
        del image_shape

    @abc.abstractmethod
    def fit(self, batches: Batches) -> Preprocessing:
        """Fit the preprocessing to the training images in one pass; their order and batching do not matter.

        Raises:
          DataError: there are no images.
        """

    @abc.abstractmethod
    def fits(self, fitted: Any, batches: Batches) -> bool:
        """Return whether `fitted` was fitted to these images, by comparison of the means, which are exact."""
