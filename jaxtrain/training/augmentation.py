"""Functions that build `data.augment`, `data.augment_after` and `data.mix` from a config.

They raise `ConfigError` with the config path of an augmentation that does not fit the images, the batch or the loss.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.augment.example_epochs import count_epochs
from jaxtrain.augment.geometry import Augmentation
from jaxtrain.augment.mixing.base import Mixing, compose_mixings
from jaxtrain.augment.pipeline import BatchAugmentation, pipeline
from jaxtrain.augment.principal_colors import ColorPca, fit_color_pca
from jaxtrain.config import AugmentationSpec, DataConfig, LossSpec, RunLength
from jaxtrain.config.spec import MixingSpec, Spec
from jaxtrain.data.loader import AugmentSwitch, CountEpochs, Mix
from jaxtrain.data.source import Split
from jaxtrain.errors import ConfigError
from jaxtrain.optim.losses import Loss
from jaxtrain.optim.schedules.base import range_over_run, schedule_arguments
from jaxtrain.optim.schedules.on_plateau import Plateau
from jaxtrain.random import EXAMPLE_EPOCHS, MIX, stream_key
from jaxtrain.registry import get_registry

_COLOR_CHUNK = 64
"""The number of images in a chunk when principal colors are computed."""


def build_augmentation(
    data: DataConfig, clock: RunLength, shape: tuple[int, int, int], colors: ColorPca | None = None
) -> tuple[BatchAugmentation | None, AugmentSwitch | None]:
    """Build the augmentation of a training batch, and the one that replaces it late in the run; None if absent.

    Args:
      data: the section `data` of the config.
      clock: the length of the run.
      shape: height, width and channels of an image.
      colors: the principal colors of the training split, for a `fancy_pca` without `eigenvalues`; None before the
        split is read.

    Raises:
      ConfigError: an augmentation does not accept images of this shape.
    """
    _check_example_epochs(data, clock)
    colors = colors or ColorPca((1.0,) * shape[2], tuple(map(tuple, np.eye(shape[2]).tolist())))
    first = pipeline(_build_each(data.augment, "data.augment", clock, shape, colors))
    if data.augment_until is None:
        if data.augment_after:
            raise ConfigError(
                "it replaces data.augment, which never ends; set data.augment_until, for example '90%'",
                "data.augment_after",
            )
        return (first if data.augment else None), None
    after = pipeline(_build_each(data.augment_after, "data.augment_after", clock, shape, colors))
    return first, AugmentSwitch(data.augment_until.to_step_count(clock, "data.augment_until"), after)


def _build_each(
    specs: Sequence[AugmentationSpec], path: str, clock: RunLength, shape: tuple[int, int, int], colors: ColorPca
) -> list[Augmentation]:
    """Build the augmentations; trace each on the output of the one before, starting with a uint8 image."""
    built = []
    key, image = jax.eval_shape(lambda: jax.random.key(0)), jax.ShapeDtypeStruct(shape, jnp.uint8)
    for index, spec in enumerate(specs):
        augment: Augmentation = spec.build(clock=clock, **colors._asdict())
        try:
            image = jax.eval_shape(augment, key, image)
        except ValueError as error:
            raise ConfigError(f"{spec.name}: {str(error).splitlines()[0]}", f"{path}.{index}") from error
        built.append(augment)
    return built


def fit_training_colors(data: DataConfig, train: Split) -> ColorPca | None:
    """Compute the principal colors of the training split; return None if no `fancy_pca` needs them."""
    if not any(_needs_colors(spec) for spec in (*data.augment, *data.augment_after)):
        return None
    return fit_color_pca(chunk.images for chunk in train.chunks(_COLOR_CHUNK))


def _needs_colors(spec: AugmentationSpec) -> bool:
    supplied = get_registry(spec.kind)[spec.name].supplied
    return "eigenvalues" in supplied and "eigenvalues" not in spec.options


def build_epoch_counter(data: DataConfig, clock: RunLength, seed: int) -> CountEpochs | None:
    """Build the function that counts the epochs in which an example was seen; None if no augmentation needs it."""
    if not _needs_example_epochs(data):
        return None
    size, examples = clock.batch_size, clock.examples
    return lambda images, step: count_epochs(stream_key(seed, EXAMPLE_EPOCHS, 0), images, step, size, examples)


def _check_example_epochs(data: DataConfig, clock: RunLength) -> None:
    """Raise `ConfigError` if epochs of single examples cannot be counted.

    The counter identifies an example by its pixels, so `data.decode` must not change them in every epoch. The counter
    also limits the size of a run.
    """
    if not _needs_example_epochs(data):
        return
    if any(spec.build().random() for spec in data.decode):
        raise ConfigError(
            "alternating_flip_lr identifies an example by its pixels, but data.decode changes them in every epoch; "
            "use flip_lr instead",
            "data.augment",
        )
    images = jax.ShapeDtypeStruct((clock.batch_size, 1, 1, 1), jnp.uint8)
    try:
        jax.eval_shape(
            lambda x: count_epochs(jax.random.key(0), x, jnp.int32(0), clock.batch_size, clock.examples), images
        )
    except ValueError as error:
        raise ConfigError(str(error), "data.augment") from error


def _needs_example_epochs(data: DataConfig) -> bool:
    specs = (*data.augment, *data.augment_after)
    return any(get_registry(spec.kind)[spec.name].requires == "example epochs" for spec in specs)


def build_mix(
    specs: Sequence[MixingSpec], clock: RunLength, seed: int, loss: Loss, loss_spec: LossSpec, num_classes: int
) -> Mix | None:
    """Build the function that mixes a batch, with the keys of the run; return None without mixings.

    Args:
      specs: `data.mix` of the config, in order.
      clock: the length of the run.
      seed: the seed of the run.
      loss: the loss, which must accept probabilities as labels.
      loss_spec: the loss of the config, for messages.
      num_classes: the number of classes.

    Raises:
      ConfigError: a mixing does not fit the run, or the loss does not accept probabilities.
    """
    if not specs:
        return None
    _check_soft_labels(specs[0].name, loss, loss_spec.name, num_classes)
    mix = compose_mixings([_build_mixing(spec, index, clock) for index, spec in enumerate(specs)], num_classes)
    key = functools.partial(stream_key, seed, MIX)
    return lambda step, images, labels: mix(key(step), step, images, labels)


def _build_mixing(spec: MixingSpec, index: int, clock: RunLength) -> Mixing:
    path = f"data.mix.{index}"
    if get_registry(spec.kind)[spec.name].requires == "two examples" and clock.batch_size < 2:
        raise ConfigError(f"{spec.name} mixes two examples, but a batch has one; increase data.batch_size", path)
    schedules = {name: value for name, value in spec.options.items() if isinstance(value, Spec)}
    try:
        built = {name: _build_mix_schedule(value, name, clock) for name, value in schedules.items()}
        mixing: Mixing = spec.build(clock=clock, built=built)
    except ConfigError as error:
        raise ConfigError(error.message, path) from error
    return mixing


def _build_mix_schedule(spec: Spec, option: str, clock: RunLength) -> Callable[[Any], Any]:
    """Build a schedule of a fraction; raise `ConfigError` if it leaves [0, 1] during the run."""
    schedule: Any = spec.build(clock=clock, **schedule_arguments(clock))
    if isinstance(schedule, Plateau):
        raise ConfigError(f"{option} cannot follow the validation metric, as {spec.name} does; choose another schedule")
    low, high = range_over_run(schedule, clock)
    if low < 0 or high > 1:
        raise ConfigError(f"{option} must stay in [0, 1], but {spec} goes from {low:g} to {high:g}")
    return schedule


def _check_soft_labels(mixing: str, loss: Loss, loss_name: str, num_classes: int) -> None:
    """Raise `ConfigError` if the loss does not accept probabilities as labels; trace it by shapes."""
    both = jax.ShapeDtypeStruct((2, num_classes), jnp.float32)
    try:
        accepts = jax.eval_shape(loss, both, both).shape == (2,)
    except (TypeError, ValueError):
        accepts = False
    if not accepts:
        raise ConfigError(
            f"{mixing} turns labels into probabilities, but the loss {loss_name} accepts only class "
            "indices; choose another loss, such as cross_entropy, or set data.mix=[]",
            "data.mix",
        )
