"""`data.augment`, `data.augment_after` and `data.mix` of a config as functions of a batch.

What does not fit the images, the batch or the loss is refused with its place in the config.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.augment.example_epochs import count_epochs
from jaxtrain.augment.geometry import Augmentation
from jaxtrain.augment.mixing.base import Mixing, mixings
from jaxtrain.augment.pipeline import BatchAugmentation, pipeline
from jaxtrain.augment.principal_colors import ColorPca, fit_color_pca
from jaxtrain.config import AugmentationSpec, Clock, DataConfig, LossSpec
from jaxtrain.config.spec import MixingSpec, Spec
from jaxtrain.data.loader import AugmentSwitch, CountEpochs, Mix
from jaxtrain.data.source import Split
from jaxtrain.errors import ConfigError
from jaxtrain.optim.losses import Loss
from jaxtrain.optim.schedules.base import range_over_run, run_facts
from jaxtrain.optim.schedules.on_plateau import Plateau
from jaxtrain.random import MIX, SIGHTING, stream
from jaxtrain.registry import table

_COLORS_AT_A_TIME = 64
"""Images whose colors are looked at together."""


def build_augmentation(
    data: DataConfig, clock: Clock, shape: tuple[int, int, int], colors: ColorPca | None = None
) -> tuple[BatchAugmentation | None, AugmentSwitch | None]:
    """Build the augmentation of a training batch, and the one that replaces it late in the run; None for none.

    Args:
      data: the section `data`.
      clock: the length of the run.
      shape: height, width and channels of an image.
      colors: the principal colors of the training split, for `fancy_pca` without axes of its own; None before the
        split is read.

    Raises:
      ConfigError: an augmentation does not take such images.
    """
    _check_example_epochs(data, clock)
    colors = colors or ColorPca((1.0,) * shape[2], tuple(map(tuple, np.eye(shape[2]).tolist())))
    first = pipeline(_build_each(data.augment, "data.augment", clock, shape, colors))
    if data.augment_until is None:
        if data.augment_after:
            raise ConfigError(
                "it begins where data.augment ends, and that never does; say when, as in data.augment_until='90%'",
                "data.augment_after",
            )
        return (first if data.augment else None), None
    after = pipeline(_build_each(data.augment_after, "data.augment_after", clock, shape, colors))
    return first, AugmentSwitch(data.augment_until.counted_steps(clock, "data.augment_until"), after)


def _build_each(
    specs: Sequence[AugmentationSpec], path: str, clock: Clock, shape: tuple[int, int, int], colors: ColorPca
) -> list[Augmentation]:
    """Build each, traced with what the one before makes of a uint8 image."""
    built = []
    key, image = jax.eval_shape(lambda: jax.random.key(0)), jax.ShapeDtypeStruct(shape, jnp.uint8)
    for place, spec in enumerate(specs):
        augment: Augmentation = spec.build(clock=clock, **colors._asdict())
        try:
            image = jax.eval_shape(augment, key, image)
        except ValueError as error:
            raise ConfigError(f"{spec.name}: {str(error).splitlines()[0]}", f"{path}.{place}") from error
        built.append(augment)
    return built


def fit_training_colors(data: DataConfig, train: Split) -> ColorPca | None:
    """Return the principal colors of the training split, where a `fancy_pca` leaves its axes out."""
    if not any(_asks_for_colors(spec) for spec in (*data.augment, *data.augment_after)):
        return None
    return fit_color_pca(chunk.images for chunk in train.chunks(_COLORS_AT_A_TIME))


def _asks_for_colors(spec: AugmentationSpec) -> bool:
    supplied = table(spec.kind)[spec.name].supplied
    return "eigenvalues" in supplied and "eigenvalues" not in spec.options


def build_epoch_counter(data: DataConfig, clock: Clock, seed: int) -> CountEpochs | None:
    """Return what counts how often the examples of a batch were seen, where an augmentation asks for it."""
    if not _needs_example_epochs(data):
        return None
    size, examples = clock.batch_size, clock.examples
    return lambda images, step: count_epochs(stream(seed, SIGHTING, 0), images, step, size, examples)


def _check_example_epochs(data: DataConfig, clock: Clock) -> None:
    """Refuse images that are drawn anew in every epoch where an example is known by its pixels; and large runs."""
    if not _needs_example_epochs(data):
        return
    if any(spec.build().random() for spec in data.host):
        raise ConfigError(
            "alternating_flip_lr knows an example by its pixels, and data.host draws others for it in every epoch; "
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
    return any(table(spec.kind)[spec.name].needs == "sightings" for spec in specs)


def build_mix(
    specs: Sequence[MixingSpec], clock: Clock, seed: int, loss: Loss, loss_spec: LossSpec, num_classes: int
) -> Mix | None:
    """Build the mixings of a batch in order, with the keys of the run; None where there are none.

    Args:
      specs: `data.mix` of the config.
      clock: the length of the run.
      seed: the seed of the run.
      loss: the loss, which must take probabilities.
      loss_spec: the loss of the config, for messages.
      num_classes: the number of classes.

    Raises:
      ConfigError: a mixing, or the loss, does not fit.
    """
    if not specs:
        return None
    _check_soft_labels(specs[0].name, loss, loss_spec.name, num_classes)
    mix = mixings([_build_mixing(spec, place, clock) for place, spec in enumerate(specs)], num_classes)
    key = functools.partial(stream, seed, MIX)
    return lambda step, images, labels: mix(key(step), step, images, labels)


def _build_mixing(spec: MixingSpec, place: int, clock: Clock) -> Mixing:
    path = f"data.mix.{place}"
    if table(spec.kind)[spec.name].needs == "two examples" and clock.batch_size < 2:
        raise ConfigError(f"{spec.name} joins two examples, and a batch has one", path)
    schedules = {name: value for name, value in spec.options.items() if isinstance(value, Spec)}
    try:
        built = {name: _build_share(value, name, clock) for name, value in schedules.items()}
        mixing: Mixing = spec.build(clock=clock, built=built)
    except ConfigError as error:
        raise ConfigError(error.message, path) from error
    return mixing


def _build_share(spec: Spec, option: str, clock: Clock) -> Callable[[Any], Any]:
    """Build a schedule of shares of 1, and look at it over the run."""
    schedule: Any = spec.build(clock=clock, **run_facts(clock))
    if isinstance(schedule, Plateau):
        raise ConfigError(f"{spec.name} follows the validation metric, which {option} cannot; choose another schedule")
    low, high = range_over_run(schedule, clock)
    if low < 0 or high > 1:
        raise ConfigError(f"{option} must stay in [0, 1], and {spec} goes from {low:g} to {high:g}")
    return schedule


def _check_soft_labels(mixing: str, loss: Loss, loss_name: str, num_classes: int) -> None:
    """Refuse a loss that does not take probabilities; found by shapes."""
    both = jax.ShapeDtypeStruct((2, num_classes), jnp.float32)
    try:
        taken = jax.eval_shape(loss, both, both).shape == (2,)
    except (TypeError, ValueError):
        taken = False
    if not taken:
        raise ConfigError(
            f"{mixing} makes probabilities of the labels, and the loss {loss_name} takes class "
            "numbers alone; choose another loss, such as cross_entropy, or set data.mix=[]",
            "data.mix",
        )
