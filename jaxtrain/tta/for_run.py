"""The test-time augmentation of a run: built for its images and its model, and traced by shapes.

Views that cannot work are rejected before anything is compiled.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxtrain.config import DataConfig, RunLength, TTASpec
from jaxtrain.errors import ConfigError
from jaxtrain.models.outputs import abstract_images, is_stochastic
from jaxtrain.registry import get_registry
from jaxtrain.tta.base import Examples, Shape, TTASetup, ViewGroup, format_size

_CONFIG_PATH = "evaluation.tta"


def build_tta(
    spec: TTASpec | None,
    data: DataConfig,
    clock: RunLength,
    model: nn.Module,
    shape: Shape,
    normalize: Callable[[jax.Array], jax.Array],
) -> tuple[ViewGroup, ...]:
    """Build the groups of views that `spec` describes; none if it is None.

    Args:
      spec: the test-time augmentation of the config.
      data: the section `data`, whose augmentations TTA may use too.
      clock: the length of the run.
      model: the model.
      shape: height, width and channels of an image.
      normalize: the preprocessing, from pixels to the model's input.

    Raises:
      ConfigError: the views do not fit the images, or they need a model that draws at random.
    """
    if spec is None:
        return ()
    if get_registry(spec.kind)[spec.name].requires == "randomness" and not is_stochastic(
        model, abstract_images(1, shape)
    ):
        raise ConfigError(
            f"{spec.name} averages over random draws of the model, but this model draws nothing (it has no dropout, "
            "stochastic depth or fractional pooling), so all views would be the same; choose other views",
            _CONFIG_PATH,
        )
    try:
        make_groups = spec.build(clock=clock, augment=data.augment)
        groups: tuple[ViewGroup, ...] = make_groups(TTASetup(shape, model, normalize, data.normalize_first))
    except ConfigError as error:
        raise ConfigError(f"{spec.name}: {error.message}", _CONFIG_PATH) from error
    except ValueError as error:
        raise ConfigError(f"{spec.name}: {error}", _CONFIG_PATH) from error
    return groups


def check_tta(
    spec: TTASpec | None,
    data: DataConfig,
    clock: RunLength,
    model: nn.Module,
    model_name: str,
    shape: Shape,
    begun: Any,
) -> None:
    """Raise `ConfigError` if the views of a run cannot be built, or if the model does not accept them.

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
    checked = set()
    for group in build_tta(spec, data, clock, model, shape, lambda pixels: pixels.astype(jnp.float32)):
        inputs = _trace_view(name, group, shape)
        size = jax.tree.leaves(inputs)[0].shape[1:]
        if (group.score, size) in checked:
            continue
        checked.add((group.score, size))
        try:
            jax.eval_shape(functools.partial(group.score, model), variables, inputs)
        except Exception as error:  # layers raise errors of any type
            raise ConfigError(
                f"{model_name} for images of {format_size(shape)} does not accept views of {format_size(size)} from "
                f"{name}: {_first_line(error)}; a model whose parameters fit one image size needs views of that size, "
                f"as from multi_scale(scales=[...], size={min(shape[:2])}); if it flattens its feature map, dense also "
                "accepts larger images",
                _CONFIG_PATH,
            ) from error


def _trace_view(name: str, group: ViewGroup, shape: Shape) -> Any:
    """Return the shapes of the input of `group.score` for one example."""

    def make_view() -> Any:
        keys = jax.random.split(jax.random.key(0), 1)
        examples = Examples(jnp.zeros((1, *shape), jnp.uint8), jnp.zeros((1, *shape)), keys)
        return group.view(group.prepare(examples), jnp.int32(0))

    try:
        return jax.eval_shape(make_view)
    except ValueError as error:
        raise ConfigError(f"{name}: {_first_line(error)}", _CONFIG_PATH) from error


def _first_line(error: Exception) -> str:
    """Return the first line of an error, without flax's link to its documentation and without the last period."""
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return first.partition(" (https:")[0].rstrip(".")
