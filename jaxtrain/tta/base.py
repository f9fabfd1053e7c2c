"""The types of test-time augmentation.

Views come in groups of equal shape. Each view is a function of a batch and of the view's index, with a weight in the
mean.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
from flax import linen as nn

V = TypeVar("V")
Shape = tuple[int, int, int]
"""Height, width and channels of an image."""


class Examples(NamedTuple):
    """A batch of test examples.

    Attributes:
      pixels: uint8[N, H, W, C].
      images: f32[N, H, W, C], normalized.
      keys: key[N], a typed key of each example; it depends on the example's index in its split, and not on the batch.
    """

    pixels: jax.Array
    images: jax.Array
    keys: jax.Array


def apply_in_evaluation(model: Any, variables: Mapping[str, Any], images: jax.Array) -> jax.Array:
    """Return the logits f[N, K] of the model in evaluation."""
    logits: jax.Array = model.apply(dict(variables), images, train=False)
    return logits


@dataclasses.dataclass(frozen=True)
class ViewGroup:
    """Views of one shape, which share a compiled program.

    Attributes:
      shares: weights of the views in the mean over all views; those of all groups add up to 1.
      prepare: function from `Examples` to the arrays from which views are made, with the examples along the first axis.
      view: function from these arrays and the index of a view, int32[], to the input of `score`: images
        f32[N, h, w, C], and further arrays if `score` takes them.
      score: function `(model, variables, input) -> logits f[N, K]`.
    """

    shares: tuple[float, ...]
    prepare: Callable[[Examples], Any]
    view: Callable[[Any, jax.Array], Any]
    score: Callable[[Any, Mapping[str, Any], Any], jax.Array] = apply_in_evaluation


@dataclasses.dataclass(frozen=True)
class TTASetup:
    """The images and the model for which views are built.

    Attributes:
      image_shape: height, width and channels of the images, as in training.
      model: a Linen module, `(images, *, train)`.
      normalize: the preprocessing, from pixels uint8[N, H, W, C] to the model's input.
      normalize_first: whether training normalizes before it augments.
    """

    image_shape: Shape
    model: nn.Module
    normalize: Callable[[jax.Array], jax.Array]
    normalize_first: bool = False


BuildViews = Callable[[TTASetup], tuple[ViewGroup, ...]]
"""A function from a setting to groups of views; it raises `ValueError` if the views do not fit the images."""


def merge_duplicates(views: Iterable[V], share: float) -> tuple[list[V], tuple[float, ...]]:
    """Return the distinct views, in order, and their parts of `share`; a repeated view is computed once."""
    counts = Counter(views)
    return list(counts), tuple(share * count / counts.total() for count in counts.values())


def format_size(shape: tuple[int, ...]) -> str:
    """Return height and width as text, for messages."""
    return f"{shape[0]}x{shape[1]}"
