"""From a config to everything a run needs, by shapes alone: what cannot work is refused here, before any compile."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import jax
import optax
from flax import linen as nn

from jaxtrain.augment.pipeline import BatchAugmentation, pipeline
from jaxtrain.config import Clock, Config, Duration
from jaxtrain.config.duration import Every
from jaxtrain.config.spec import Spec
from jaxtrain.data.splits import SplitPlan, plan_splits
from jaxtrain.errors import ConfigError, JaxtrainError
from jaxtrain.optim.losses import Loss
from jaxtrain.optim.rules import values_by_path, with_rules
from jaxtrain.optim.schedules import Schedule, as_schedule
from jaxtrain.training.calendar import Calendar
from jaxtrain.training.parallel import Layout, make_layout
from jaxtrain.training.state import TrainState, initializer


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """A run worked out and checked, without having read an image or compiled a program.

    Attributes:
      config: what it was made from.
      splits: the data set and the sizes of its splits.
      layout: the devices.
      clock: epochs, steps and examples of this run; its `total_steps` is the length.
      model: the Linen module.
      tx: the optimizer, with the rules on parameters applied.
      schedule: its learning rate by step.
      loss: a value an example.
      augment: of a training batch.
      abstract: the state as `jax.ShapeDtypeStruct`s.
      calendar: what is due at which step.
    """

    config: Config
    splits: SplitPlan
    layout: Layout
    clock: Clock
    model: nn.Module
    tx: optax.GradientTransformationExtraArgs
    schedule: Schedule
    loss: Loss
    augment: BatchAugmentation
    abstract: TrainState
    calendar: Calendar

    @property
    def total_steps(self) -> int:
        """Length of the run in steps."""
        return self.clock.total_steps or 0


def data_directory(config: Config, override: str | Path | None = None) -> Path | None:
    """Where data files are looked for: `override` (`--data-dir`), `data.directory`, the variable JAXTRAIN_DATA."""
    for candidate in (override, config.data.directory, os.environ.get("JAXTRAIN_DATA")):
        if candidate:
            return Path(os.path.expanduser(candidate))  # which, unlike Path.expanduser, leaves an unknown ~user alone
    return None


def make_plan(config: Config, data_dir: str | Path | None = None) -> Plan:
    """Works a run out. Raises `ConfigError` or `DataError` for everything that could not train."""
    splits = plan_splits(config.data, data_directory(config, data_dir))
    clock = Clock(splits.sizes["train"], config.data.batch_size)
    _check_time(config.train_for, clock, "train_for")
    total = config.train_for.counted_steps(clock, "train_for")
    clock = dataclasses.replace(clock, total_steps=total)
    layout = make_layout(config.devices, config.data.batch_size)
    model = config.model.build(clock=clock, num_classes=splits.dataset.num_classes)
    tx, schedule = _optimizer(config, clock)
    return Plan(
        config=config,
        splits=splits,
        layout=layout,
        clock=clock,
        model=model,
        tx=tx,
        schedule=schedule,
        loss=config.loss.build(clock=clock),
        augment=pipeline([spec.build(clock=clock) for spec in config.data.augment]),
        abstract=_abstract_state(config, model, tx, splits),
        calendar=Calendar(
            log=_every(config.logging.every, clock, "logging.every"),
            evaluate=_every(config.evaluation.every, clock, "evaluation.every"),
            save=_every(config.checkpoint.every, clock, "checkpoint.every"),
            total=total,
        ),
    )


def _check_time(duration: Duration, clock: Clock, path: str) -> None:
    try:
        steps = duration.steps(clock)
    except ConfigError as error:
        raise error.under(path) from None
    if steps < 1:
        raise ConfigError(f"'{duration}' is no time at all; it must be one step at least", path)


def _every(duration: Duration, clock: Clock, path: str) -> Every:
    _check_time(duration, clock, path)
    return Every(duration.exact_steps(clock))


def _optimizer(config: Config, clock: Clock) -> tuple[optax.GradientTransformationExtraArgs, Schedule]:
    total = clock.total_steps
    rate = config.optimizer.options.get("learning_rate")
    try:
        if isinstance(rate, Spec):
            rate = rate.build(clock=clock, total=total)
        tx = config.optimizer.build(clock=clock, total=total)
    except ConfigError as error:
        raise ConfigError(error.message, error.path.replace("schedule", "optimizer.learning_rate", 1)) from error
    rules = config.parameters
    schedule = as_schedule(rate) if rate is not None else as_schedule(0.0)
    return with_rules(tx, rules.learning_rate, rules.frozen), schedule


def _abstract_state(
    config: Config, model: nn.Module, tx: optax.GradientTransformationExtraArgs, splits: SplitPlan
) -> TrainState:
    """The shapes of the state, which also shows that model, images, classes and rules fit together."""
    h, w, c = splits.image_shape
    try:
        abstract: TrainState = jax.eval_shape(initializer(model, tx, splits.image_shape, config.seed))
    except JaxtrainError:
        raise
    except Exception as error:
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{config.model.name} does not take images of {h}x{w}x{c}: {message}", "model") from error
    _check_rules(config, abstract.params)
    return abstract


def _check_rules(config: Config, params: Any) -> None:
    values_by_path(config.parameters.learning_rate, params, "parameters.learning_rate", all_used=True)
    frozen = values_by_path(config.parameters.frozen, params, "parameters.frozen", all_used=True)
    if not set(jax.tree.leaves(frozen)) <= {0.0, 1.0}:
        raise ConfigError("1 freezes a parameter and 0 trains it; there is nothing in between", "parameters.frozen")
    if all(jax.tree.leaves(frozen)):
        raise ConfigError("every parameter is frozen; nothing would be trained", "parameters.frozen")
    decay = config.optimizer.options.get("weight_decay")
    if decay is not None:
        values_by_path(decay, params, "optimizer.weight_decay", all_used=True)
