"""The augmentations of a config, traced with its images; colors of the training split, for `fancy_pca`."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.augment.example_epochs import sightings
from jaxtrain.augment.geometry import Augmentation
from jaxtrain.augment.pipeline import BatchAugmentation, pipeline
from jaxtrain.augment.principal_colors import ColorPca, fit_color_pca
from jaxtrain.config import AugmentationSpec, Clock, Config
from jaxtrain.data.dataset import ArraySource
from jaxtrain.data.loader import Late, Sightings
from jaxtrain.data.streaming import StreamedSplit
from jaxtrain.errors import ConfigError
from jaxtrain.random import SIGHTING, stream
from jaxtrain.registry import table

_AT_A_TIME = 64
"""Pictures that are decoded and looked at together."""


def augmentation(
    config: Config, clock: Clock, shape: tuple[int, int, int], colors: ColorPca | None = None
) -> tuple[BatchAugmentation, Late | None]:
    """What is done to each image of a training batch, and what takes its place late in the run.

    Args:
      config: of the run.
      clock: of the run.
      shape: height, width and channels of an image.
      colors: of the training split, for `fancy_pca` without axes of its own; None before it is read.

    Raises:
      ConfigError: with the place in `data.augment` or `data.augment_after` where one does not take such images.
    """
    data = config.data
    _check_sightings(config, clock)
    colors = colors or ColorPca((1.0,) * shape[2], tuple(map(tuple, np.eye(shape[2]).tolist())))
    first = pipeline(_built(data.augment, "data.augment", clock, shape, colors))
    if data.augment_until is None:
        if data.augment_after:
            raise ConfigError(
                "it begins where data.augment ends, and that never does; say when, as in data.augment_until='90%'",
                "data.augment_after",
            )
        return first, None
    after = pipeline(_built(data.augment_after, "data.augment_after", clock, shape, colors))
    return first, Late(data.augment_until.counted_steps(clock, "data.augment_until"), after)


def _built(
    specs: Sequence[AugmentationSpec], path: str, clock: Clock, shape: tuple[int, int, int], colors: ColorPca
) -> list[Augmentation]:
    """Each is traced with what the one before makes of a uint8 image."""
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


def training_colors(config: Config, train: ArraySource | StreamedSplit) -> ColorPca | None:
    """The principal colors of the training split, where a `fancy_pca` leaves its axes out."""
    if not any(_asks_for_colors(spec) for spec in (*config.data.augment, *config.data.augment_after)):
        return None
    if isinstance(train, ArraySource):
        return fit_color_pca([train.images])
    return fit_color_pca(chunk.images for chunk in train.chunks(_AT_A_TIME))


def training_sightings(config: Config, clock: Clock) -> Sightings | None:
    """How often the examples of a batch were seen, where an augmentation needs to know."""
    if not _needs_sightings(config):
        return None
    size, examples = clock.batch_size, clock.examples
    return lambda images, step: sightings(stream(config.seed, SIGHTING, 0), images, step, size, examples)


def _check_sightings(config: Config, clock: Clock) -> None:
    """Refuses pictures that are drawn anew in every epoch where an example is known by its pixels; and large runs."""
    if not _needs_sightings(config):
        return
    if any(spec.build().random() for spec in config.data.host):
        raise ConfigError(
            "alternating_flip_lr knows an example by its pixels, and data.host draws others for it in every epoch; "
            "use flip_lr instead",
            "data.augment",
        )
    images = jax.ShapeDtypeStruct((clock.batch_size, 1, 1, 1), jnp.uint8)
    try:
        jax.eval_shape(
            lambda x: sightings(jax.random.key(0), x, jnp.int32(0), clock.batch_size, clock.examples), images
        )
    except ValueError as error:
        raise ConfigError(str(error), "data.augment") from error


def _needs_sightings(config: Config) -> bool:
    specs = (*config.data.augment, *config.data.augment_after)
    return any(table(spec.kind)[spec.name].needs == "sightings" for spec in specs)


def _asks_for_colors(spec: AugmentationSpec) -> bool:
    supplied = table(spec.kind)[spec.name].supplied
    return "eigenvalues" in supplied and "eigenvalues" not in spec.options
