"""What optimizers need of a run: a config that cannot give it is refused with the reason."""

from collections.abc import Collection
from typing import Any

from flax import linen as nn

from jaxtrain.config import Clock, Config
from jaxtrain.errors import ConfigError
from jaxtrain.models.outputs import abstract_images, draws_at_random, has_auxiliary_heads
from jaxtrain.training.optimizer import RunOptimizer, requirements_of


def check_requirements(config: Config, clock: Clock, model: nn.Module, image_shape: tuple[int, int, int]) -> None:
    """Raise `ConfigError` where the run cannot give what its optimizer needs.

    Args:
      config: the run's configuration.
      clock: the length of the run.
      model: the model.
      image_shape: height, width and channels of an image.
    """
    wanted = requirements_of(config.optimizer)
    images = abstract_images(1, image_shape)
    if "full batch" in wanted:
        _check_full_batch(config, clock, model, images)
    if "softmax" in wanted and config.loss.name != "cross_entropy":
        raise ConfigError(
            f"{config.optimizer.name} draws labels from the softmax of the model's outputs, which is the distribution "
            f"behind loss=cross_entropy and not behind loss={config.loss.name}",
            "loss",
        )
    if "softmax" in wanted and config.data.micro_batch is not None:
        raise ConfigError(
            f"{config.optimizer.name} looks into the layers while the whole batch is in them; leave micro_batch out",
            "data.micro_batch",
        )
    if "softmax" in wanted and has_auxiliary_heads(model, images):
        raise ConfigError(
            f"{config.optimizer.name} knows the curvature of one softmax, and {config.model.name} has auxiliary heads "
            "in training; leave them out, as in model.auxiliary=false",
            "model",
        )


def check_plateau(optimizer: RunOptimizer, splits: Collection[str]) -> None:
    """Raise `ConfigError` where a learning rate follows the validation metric and there is no validation split."""
    if optimizer.plateau is not None and "validation" not in splits:
        raise ConfigError(
            "a plateau is told by the validation metric, and there is no validation split: "
            "hold some examples out, for example data.validation='10%'",
            "optimizer.learning_rate",
        )


def _check_full_batch(config: Config, clock: Clock, model: nn.Module, images: Any) -> None:
    name = config.optimizer.name
    if clock.batch_size != clock.examples:
        raise ConfigError(
            f"{name} compares values of one objective, and another batch is another objective: set "
            "data.batch_size=all (and data.micro_batch where that is too much for the memory)",
            "data.batch_size",
        )
    for setting in ("augment", "augment_after"):
        if getattr(config.data, setting):
            raise ConfigError(
                f"{name} compares values of one objective, and augmentation changes it at every step: set "
                f"data.{setting}=[]",
                f"data.{setting}",
            )
    if config.data.mix:
        raise ConfigError(
            f"{name} compares values of one objective, and other mixtures are another objective: set data.mix=[]",
            "data.mix",
        )
    if config.data.host:
        raise ConfigError(
            f"{name} compares values of one objective, and pictures decoded anew are another: set data.host=[]",
            "data.host",
        )
    if config.gradients:
        raise ConfigError(
            f"{name} compares the gradient with values of the objective; it must be left as it is: set gradients=[]",
            "gradients",
        )
    if draws_at_random(model, images):
        raise ConfigError(
            f"{name} compares values of one objective, and {config.model.name} draws at random in training "
            "(dropout, say), which changes it at every step: turn that off, as in model.dropout_rate=0",
            "model",
        )
