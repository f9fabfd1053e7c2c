"""Checks that a run fulfills the requirements of its optimizer."""

from collections.abc import Collection
from typing import Any

from flax import linen as nn

from jaxtrain.config import Config, RunLength
from jaxtrain.errors import ConfigError
from jaxtrain.models.outputs import abstract_images, has_auxiliary_heads, is_stochastic
from jaxtrain.training.optimizer import RunOptimizer, optimizer_requirements


def check_requirements(config: Config, clock: RunLength, model: nn.Module, image_shape: tuple[int, int, int]) -> None:
    """Raise `ConfigError` with the reason if the run does not fulfill a requirement of its optimizer.

    Args:
      config: the run's configuration.
      clock: the length of the run.
      model: the model.
      image_shape: height, width and channels of an image.
    """
    requirements = optimizer_requirements(config.optimizer)
    images = abstract_images(1, image_shape)
    if "full batch" in requirements:
        _check_full_batch(config, clock, model, images)
    if "softmax" in requirements and config.loss.name != "cross_entropy":
        raise ConfigError(
            f"{config.optimizer.name} draws labels from the softmax of the model's outputs, which is correct for "
            f"loss=cross_entropy but not for loss={config.loss.name}; set loss=cross_entropy",
            "loss",
        )
    if "softmax" in requirements and config.data.micro_batch is not None:
        raise ConfigError(
            f"{config.optimizer.name} needs the layers' inputs of the whole batch at once; leave data.micro_batch out",
            "data.micro_batch",
        )
    if "softmax" in requirements and has_auxiliary_heads(model, images):
        raise ConfigError(
            f"{config.optimizer.name} computes the curvature of one softmax, but {config.model.name} has auxiliary "
            "heads in training; turn them off, for example with model.auxiliary=false",
            "model",
        )


def check_plateau(optimizer: RunOptimizer, splits: Collection[str]) -> None:
    """Raise `ConfigError` if the learning rate follows the validation metric, but there is no validation split."""
    if optimizer.plateau is not None and "validation" not in splits:
        raise ConfigError(
            "plateau follows the validation metric, but there is no validation split; "
            "hold out some examples, for example data.validation='10%'",
            "optimizer.learning_rate",
        )


def _check_full_batch(config: Config, clock: RunLength, model: nn.Module, images: Any) -> None:
    name = config.optimizer.name
    if clock.batch_size != clock.examples:
        raise ConfigError(
            f"{name} needs the same objective at every evaluation, but batches differ: set data.batch_size=all "
            "(and data.micro_batch if the whole batch does not fit in memory)",
            "data.batch_size",
        )
    for setting in ("augment", "augment_after"):
        if getattr(config.data, setting):
            raise ConfigError(
                f"{name} needs the same objective at every evaluation, but augmentation changes it at every step: set "
                f"data.{setting}=[]",
                f"data.{setting}",
            )
    if config.data.mix:
        raise ConfigError(
            f"{name} needs the same objective at every evaluation, but mixing changes it at every step: set "
            "data.mix=[]",
            "data.mix",
        )
    if config.data.decode:
        raise ConfigError(
            f"{name} needs the same objective at every evaluation, but data.decode decodes different images at every "
            "step: set data.decode=[]",
            "data.decode",
        )
    if config.gradients:
        raise ConfigError(
            f"{name} compares the gradient with values of the objective, so the gradient must not be transformed: set "
            "gradients=[]",
            "gradients",
        )
    if is_stochastic(model, images):
        raise ConfigError(
            f"{name} needs the same objective at every evaluation, but {config.model.name} draws random numbers in "
            "training (for example dropout): turn that off, for example with model.dropout_rate=0",
            "model",
        )
