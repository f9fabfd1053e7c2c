"""The test-time augmentation of a run: built for its images and its model, and traced by shapes.

What cannot work is refused before anything is compiled.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxtrain.config import Clock, DataConfig, ViewsSpec
from jaxtrain.errors import ConfigError
from jaxtrain.models.outputs import abstract_images, draws_at_random
from jaxtrain.registry import table
from jaxtrain.tta.base import Examples, Group, Setting, Shape, in_words

PATH = "evaluation.views"


def build_tta(
    spec: ViewsSpec | None,
    data: DataConfig,
    clock: Clock,
    model: nn.Module,
    shape: Shape,
    normalize: Callable[[jax.Array], jax.Array],
) -> tuple[Group, ...]:
    """Build the groups of views that `spec` describes; none where it is None.

    Args:
      spec: the test-time augmentation of the config.
      data: the section `data`, whose augmentations may be drawn at test too.
      clock: the length of the run.
      model: the model.
      shape: height, width and channels of an image.
      normalize: the preprocessing, from pixels to what the model sees.

    Raises:
      ConfigError: the views do not fit such images, or the model does not draw.
    """
    if spec is None:
        return ()
    if table(spec.kind)[spec.name].needs == "randomness" and not draws_at_random(model, abstract_images(1, shape)):
        raise ConfigError(
            f"{spec.name} averages over what a model draws in training, and the model as it is set draws "
            "nothing (no dropout, stochastic depth or fractional pooling): all views would be the same",
            PATH,
        )
    try:
        views = spec.build(clock=clock, augment=data.augment)
        groups: tuple[Group, ...] = views(Setting(shape, model, normalize, data.normalize_first))
    except ConfigError as error:
        raise ConfigError(f"{spec.name}: {error.message}", PATH) from error
    except ValueError as error:
        raise ConfigError(f"{spec.name}: {error}", PATH) from error
    return groups


def check_tta(
    spec: ViewsSpec | None, data: DataConfig, clock: Clock, model: nn.Module, model_name: str, shape: Shape, begun: Any
) -> None:
    """Raise `ConfigError` where the views of a run cannot be made, or the model does not take them.

    Args:
      spec: the test-time augmentation of the config.
      data: the section `data`.
      clock: the length of the run.
      model: the model.
      model_name: the model's name in the config, for messages.
      shape: height, width and channels of an image.
      begun: the shapes of the first `TrainState`.
    """
    name = "" if spec is None else spec.name
    variables = {"params": begun.params, **begun.variables}
    tried = set()
    for group in build_tta(spec, data, clock, model, shape, lambda pixels: pixels.astype(jnp.float32)):
        seen = _seen(name, group, shape)
        size = jax.tree.leaves(seen)[0].shape[1:]
        if (group.score, size) in tried:
            continue
        tried.add((group.score, size))
        try:
            jax.eval_shape(functools.partial(group.score, model), variables, seen)
        except Exception as error:  # of whatever kind a model's layers raise
            raise ConfigError(
                f"{model_name} for images of {in_words(shape)} does not take views of {in_words(size)} from "
                f"{name}: {_sentence(error)}; a model whose parameters fit one size takes views of that size, as of "
                f"multi_scale(scales=[...], size={min(shape[:2])}), or with flattened dense layers larger ones through "
                "dense",
                PATH,
            ) from error


def _seen(name: str, group: Group, shape: Shape) -> Any:
    """What the model is shown, by its shape."""

    def first() -> Any:
        keys = jax.random.split(jax.random.key(0), 1)
        examples = Examples(jnp.zeros((1, *shape), jnp.uint8), jnp.zeros((1, *shape)), keys)
        return group.view(group.prepare(examples), jnp.int32(0))

    try:
        return jax.eval_shape(first)
    except ValueError as error:
        raise ConfigError(f"{name}: {_sentence(error)}", PATH) from error


def _sentence(error: Exception) -> str:
    """What an error says, without the address of flax's manual and the last period."""
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return first.partition(" (https:")[0].rstrip(".")
