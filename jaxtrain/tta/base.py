"""What views are: groups of equal shape, each view a function of a batch and its number, with a share of the mean."""

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
    """A batch at test: `pixels` uint8[N, H, W, C], `images` f32[N, H, W, C] normalized, a typed key for each example.

    The keys depend on the example's place in its split, and not on the batch.
    """

    pixels: jax.Array
    images: jax.Array
    keys: jax.Array


def applied(model: Any, variables: Mapping[str, Any], images: jax.Array) -> jax.Array:
    """The logits f[N, K] of the model at test."""
    logits: jax.Array = model.apply(dict(variables), images, train=False)
    return logits


@dataclasses.dataclass(frozen=True)
class Group:
    """Views of one shape, for which one program is compiled.

    Attributes:
      shares: of each view in the mean over all; those of all groups add up to 1.
      prepare: from `Examples` to what the views are cut from, arrays with the examples along the first axis.
      view: from that and the number of a view, int32[], to what is scored: images f32[N, h, w, C], and what else
        `score` takes.
      score: `(model, variables, what is scored) -> logits f[N, K]`.
    """

    shares: tuple[float, ...]
    prepare: Callable[[Examples], Any]
    view: Callable[[Any, jax.Array], Any]
    score: Callable[[Any, Mapping[str, Any], Any], jax.Array] = applied


@dataclasses.dataclass(frozen=True)
class Setting:
    """What views are laid out for.

    Attributes:
      image_shape: of the images, which is that of training.
      model: a Linen module, `(images, *, train)`.
      normalize: from pixels uint8[N, H, W, C] to what the model sees.
      normalize_first: whether training augments what is normalized.
    """

    image_shape: Shape
    model: nn.Module
    normalize: Callable[[jax.Array], jax.Array]
    normalize_first: bool = False


Views = Callable[[Setting], tuple[Group, ...]]
"""What a factory of the table gives; it raises ValueError where the views do not fit the images."""


def distinct(views: Iterable[V], share: float) -> tuple[list[V], tuple[float, ...]]:
    """The views that differ, in order, and their shares of `share`: one that is there twice is looked at once."""
    counts = Counter(views)
    return list(counts), tuple(share * count / counts.total() for count in counts.values())


def in_words(shape: tuple[int, ...]) -> str:
    """Height and width, for messages."""
    return f"{shape[0]}x{shape[1]}"
