"""What every kind of preprocessing is: a recipe that is fitted to images, and the fixed function that this gives."""

import abc
from collections.abc import Iterable
from typing import Any, Protocol

import jax
import numpy as np

Batches = Iterable[np.ndarray]
"""uint8[N, H, W, C] each; they are gone through once, so that the data set may be larger than the memory."""


class Preprocessing(Protocol):
    """A function that has been fitted: the same for training, evaluation and prediction."""

    def apply(self, images: jax.Array) -> jax.Array:
        """What the model sees of `images` uint8[..., H, W, C], or of floats of that range: f32 of the same shape."""
        ...

    def inverse(self, values: jax.Array) -> jax.Array:
        """The images behind `values` f32[..., H, W, C], as pixels in [0, 1], to which they are clipped: for pictures.

        What `apply` took away (components, constant pixels) comes back as the training images had it on average.
        """
        ...


class Recipe(abc.ABC):
    """A kind of preprocessing with its options, before it has seen an image."""

    padded = True
    """Whether it is fitted to images with the margin of `data.pad`; what is fitted by channel is not."""

    looks = True
    """Whether the pixels it is fitted to make a difference, beside their number of channels."""

    def check(self, image_shape: tuple[int, int, int]) -> None:
        """Raises `ValueError` where images of this height, width and channels cannot be fitted."""
        del image_shape

    @abc.abstractmethod
    def fit(self, batches: Batches) -> Preprocessing:
        """What the training images give, in one pass; it does not depend on their order or their batches.

        Raises:
          DataError: where there are no images.
        """

    @abc.abstractmethod
    def fits(self, fitted: Any, batches: Batches) -> bool:
        """Whether `fitted` came of these images: its means, which are computed exactly, are theirs."""
