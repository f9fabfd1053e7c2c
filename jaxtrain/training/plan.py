"""From a config to everything a run needs, by shapes alone: what cannot work is refused here, before any compile."""

import dataclasses
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxtrain.augment.pipeline import BatchAugmentation
from jaxtrain.config import Clock, Config, Duration
from jaxtrain.config.annotations import ByPath
from jaxtrain.config.duration import EventSchedule, Every
from jaxtrain.data.loader import AugmentSwitch, Batch, Mix
from jaxtrain.data.source import Split
from jaxtrain.data.splits import SplitPlan, plan_splits
from jaxtrain.distributed.mesh import Layout, make_layout
from jaxtrain.distributed.pmap import pmap_step
from jaxtrain.distributed.sharded_step import ShardedStep, shard_step
from jaxtrain.errors import ConfigError, JaxtrainError
from jaxtrain.models.outputs import abstract_images
from jaxtrain.optim.averages import has_average
from jaxtrain.optim.layer_decay import call_order
from jaxtrain.optim.losses import Loss
from jaxtrain.optim.penalties import Penalty
from jaxtrain.training.augmentation import build_augmentation, build_mix, fit_training_colors
from jaxtrain.training.dispatch import StepsPerCall, check_steps_per_call, choose_steps_per_call
from jaxtrain.training.objective import Objective
from jaxtrain.training.optimizer import (
    RunOptimizer,
    build_optimizer,
    check_rules,
    complete_optimizer,
    learning_rate_rules,
    requirements_of,
)
from jaxtrain.training.precision import at_matmul_precision, with_precision
from jaxtrain.training.requirements import check_plateau, check_requirements
from jaxtrain.training.state import TrainState, initializer
from jaxtrain.training.step import TrainStep, make_train_step
from jaxtrain.tta.for_run import check_tta


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """A run worked out and checked, without having read an image or compiled a program.

    Attributes:
      config: the run's configuration.
      splits: the data set and the sizes of its splits.
      layout: the devices.
      devices: how they share a step.
      clock: epochs, steps and examples of this run; its `total_steps` is the length.
      model: the Linen module.
      optimizer: the optimizer, with the rules on parameters applied.
      multipliers: the multipliers of the learning rate, by path.
      loss: the loss, a value an example.
      penalties: the functions of the parameters that are added to the mean loss.
      augment: the augmentation of a training batch, if there is one.
      switch: the augmentation that replaces it late in the run.
      mix: the mixing of a training batch.
      abstract: the state as `jax.ShapeDtypeStruct`s.
      events: the steps at which something is due.
      jaxpr: the training step, traced by shapes.
    """

    config: Config
    splits: SplitPlan
    layout: Layout
    devices: ShardedStep
    clock: Clock
    model: nn.Module
    optimizer: RunOptimizer
    multipliers: ByPath
    loss: Loss
    penalties: tuple[Penalty, ...]
    augment: BatchAugmentation | None
    switch: AugmentSwitch | None
    mix: Mix | None
    abstract: TrainState
    events: EventSchedule
    jaxpr: Any = None

    @property
    def total_steps(self) -> int:
        """The length of the run in steps."""
        return self.clock.total_steps or 0

    @property
    def higher_is_better(self) -> bool:
        """Whether the validation metric that picks the best checkpoint, and that a plateau watches, is to rise."""
        return self.config.evaluation.best == "accuracy"

    @property
    def steps_per_call(self) -> StepsPerCall:
        """How many steps are dispatched at a time."""
        single = self.splits.needs_single_steps or self.devices.needs_single_steps
        return choose_steps_per_call(self.config.steps_per_dispatch, single, self.jaxpr, on_cpu=self.layout.on_cpu)

    @property
    def averages(self) -> bool:
        """Whether evaluation uses other parameters than those that are trained."""
        return has_average(self.abstract.opt_state)

    @property
    def objective(self) -> Objective:
        """What a training step minimizes."""
        adds = not requirements_of(self.config.optimizer)
        return Objective(self.model, self.loss, self.penalties, self.config.data.micro_batch, adds_gradients=adds)

    @property
    def train_step(self) -> TrainStep:
        """The step, yet to be compiled, of a whole batch on one device."""
        alone = dataclasses.replace(self.devices.batch_norm_scope, axis_name=None)
        in_place = self.layout.one_cpu or self.layout.mesh.size > 1
        return self._make_step(ShardedStep(batch_norm_scope=alone, in_place=in_place))

    @property
    def shared_step(self) -> TrainStep:
        """The step, yet to be compiled, as the devices of the layout share it."""
        return self._make_step(self.devices)

    def _make_step(self, devices: ShardedStep) -> TrainStep:
        step = make_train_step(self.objective, self.optimizer.tx, self.config.seed, devices)
        return at_matmul_precision(step, self.config.precision.matmul)

    @property
    def abstract_batch(self) -> Batch:
        """The shapes of a training batch."""
        images = abstract_images(self.clock.batch_size, self.splits.image_shape)
        size = images.shape[:1]
        if self.mix is not None:
            soft = jax.ShapeDtypeStruct((*size, self.splits.dataset.num_classes), jnp.float32)
            return Batch(images, soft)  # type: ignore[arg-type]
        return Batch(images, jax.ShapeDtypeStruct(size, jnp.int32))  # type: ignore[arg-type]


def data_directory(config: Config, override: str | Path | None = None) -> Path | None:
    """Return where data files are: `override` (`--data-dir`), else `data.directory`, else JAXTRAIN_DATA."""
    for candidate in (override, config.data.directory, os.environ.get("JAXTRAIN_DATA")):
        if candidate:
            return Path(os.path.expanduser(candidate))  # which, unlike Path.expanduser, leaves an unknown ~user alone
    return None


def make_plan(config: Config, data_dir: str | Path | None = None) -> Plan:
    """Work a run out. Raises `ConfigError` or `DataError` for everything that could not train."""
    splits = plan_splits(config.data, data_directory(config, data_dir))
    clock = _run_length(config.train_for, splits)
    layout = make_layout(config.devices, splits.batch_size, config.parallel)
    devices = pmap_step(layout, splits.batch_size) if config.parallel.backend == "pmap" else shard_step(layout)
    check_steps_per_call(config.steps_per_dispatch, splits.needs_single_steps or devices.needs_single_steps)
    model_spec = with_precision(config.model, config.precision.policy)
    model = model_spec.build(clock=clock, num_classes=splits.dataset.num_classes)
    begun = _abstract_model(model, model_spec.name, splits.image_shape, config.seed)
    optimizer, multipliers = _plan_optimizer(config, clock, model, begun.params, splits)
    loss: Loss = config.loss.build(clock=clock)
    augment, switch = build_augmentation(config.data, clock, splits.image_shape)
    check_tta(config.evaluation.views, config.data, clock, model, config.model.name, splits.image_shape, begun)
    plan = Plan(
        config=config,
        splits=splits,
        layout=layout,
        devices=devices,
        clock=clock,
        model=model,
        optimizer=optimizer,
        multipliers=multipliers,
        loss=loss,
        penalties=tuple(spec.build(clock=clock) for spec in config.penalties),
        augment=augment,
        switch=switch,
        mix=build_mix(config.data.mix, clock, config.seed, loss, config.loss, splits.dataset.num_classes),
        abstract=begun.replace(opt_state=_trace(jax.eval_shape, optimizer.tx.init, begun.params)),
        events=_plan_events(config, clock),
    )
    layout.partition.check(plan.abstract)
    _check_micro_batches(config.data.micro_batch, plan.clock.batch_size, devices, layout)
    _trace(devices.check, plan.shared_step, plan.abstract, plan.abstract_batch)
    jaxpr = _trace(jax.make_jaxpr(plan.train_step), plan.abstract, plan.abstract_batch)
    return dataclasses.replace(plan, jaxpr=jaxpr)


def with_training_colors(plan: Plan, train: Split) -> Plan:
    """Return the plan with augmentations that know the colors of the training split, if one of them wants to."""
    colors = fit_training_colors(plan.config.data, train)
    if colors is None:
        return plan
    augment, switch = build_augmentation(plan.config.data, plan.clock, plan.splits.image_shape, colors)
    return dataclasses.replace(plan, augment=augment, switch=switch)


def _run_length(train_for: Duration, splits: SplitPlan) -> Clock:
    clock = Clock(splits.sizes["train"], splits.batch_size)
    _check_duration(train_for, clock, "train_for")
    return dataclasses.replace(clock, total_steps=train_for.counted_steps(clock, "train_for"))


def _plan_optimizer(
    config: Config, clock: Clock, model: nn.Module, params: Any, splits: SplitPlan
) -> tuple[RunOptimizer, ByPath]:
    """The optimizer of the run and the multipliers of its learning rate, held to the parameters and to the run."""
    rules = config.parameters
    optimizer = build_optimizer(config.optimizer, clock, config.seed, config.base_batch_size)
    check_rules(rules, config.optimizer, params)
    check_requirements(config, clock, model, splits.image_shape)
    check_plateau(optimizer, splits.sizes)
    layers = call_order(model, splits.image_shape) if rules.layer_decay is not None else ()
    multipliers = learning_rate_rules(rules, config.optimizer, layers)
    return complete_optimizer(config, clock, optimizer, multipliers), multipliers


def _plan_events(config: Config, clock: Clock) -> EventSchedule:
    def every(duration: Duration, path: str) -> Every:
        _check_duration(duration, clock, path)
        return Every(duration.exact_steps(clock))

    return EventSchedule(
        log=every(config.logging.every, "logging.every"),
        evaluate=every(config.evaluation.every, "evaluation.every"),
        save=every(config.checkpoint.every, "checkpoint.every"),
        total=clock.total_steps or 0,
    )


def _check_duration(duration: Duration, clock: Clock, path: str) -> None:
    try:
        steps = duration.steps(clock)
    except ConfigError as error:
        raise error.under(path) from None
    if steps < 1:
        raise ConfigError(f"'{duration}' is no time at all; it must be one step at least", path)


def _abstract_model(model: nn.Module, name: str, image_shape: tuple[int, int, int], seed: int) -> TrainState:
    """The shapes of a state without an optimizer, which also shows that model, images and classes fit together."""
    h, w, c = image_shape
    try:
        state: TrainState = jax.eval_shape(initializer(model, optax.identity(), image_shape, seed))
        return state
    except JaxtrainError:
        raise
    except Exception as error:
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{name} does not take images of {h}x{w}x{c}: {message}", "model") from error


def _check_micro_batches(most: int | None, batch_size: int, devices: ShardedStep, layout: Layout) -> None:
    """Refuse micro-batches that cannot be dealt: on explicit axes each device has its part of each of them."""
    if most is None:
        return
    size = devices.local_batch_size(batch_size)
    parts = math.ceil(size / most)
    together = devices.batch_norm_scope.size or 1
    if together > 1 and size % (parts * together):
        raise ConfigError(
            f"{parts} micro-batches of {size} examples do not hold whole groups of {together} for batch "
            "normalization; choose another data.micro_batch or parallel.batch_norm",
            "data.micro_batch",
        )
    if layout.explicit and size % (parts * layout.shares):
        fitting = [size // n for n in range(1, size + 1) if size % (n * layout.shares) == 0]
        raise ConfigError(
            f"{parts} micro-batches of {size} examples do not divide among {layout.shares} devices, as explicit axes "
            f"need it; choose one of {', '.join(map(str, sorted(fitting)))}, or parallel.axis_types=auto",
            "data.micro_batch",
        )


def _trace(trace: Callable[..., Any], *args: Any) -> Any:
    """What abstract evaluation gives; optimizers, losses and penalties say in it what does not fit."""
    try:
        return trace(*args)
    except ValueError as error:
        raise ConfigError(str(error).splitlines()[0], "optimizer") from error
