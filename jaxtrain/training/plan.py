"""The plan of a run: all its parts, built from the config and checked by shapes before anything is compiled."""

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

from jaxtrain.annotations import ByPath
from jaxtrain.augment.pipeline import BatchAugmentation
from jaxtrain.config import Config, Duration, RunLength
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
    optimizer_requirements,
)
from jaxtrain.training.precision import apply_matmul_precision, apply_precision_policy
from jaxtrain.training.requirements import check_plateau, check_requirements
from jaxtrain.training.state import TrainState, state_initializer
from jaxtrain.training.step import TrainStep, make_train_step
from jaxtrain.tta.for_run import check_tta


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """The parts of a run, built and checked without reading an image or compiling a program.

    Attributes:
      config: the run's configuration.
      splits: the data set and the sizes of its splits.
      layout: the mesh of devices and the shardings on it.
      devices: the operations by which the devices share a step.
      clock: the examples, batch size and `total_steps` of the run.
      model: the Linen module.
      optimizer: the complete optimizer, including rules by path and averaging.
      multipliers: the multipliers of the learning rate, by path.
      loss: the loss, with one value for each example.
      penalties: the functions of the parameters that are added to the mean loss.
      augment: the augmentation of a training batch; None for none.
      switch: the augmentation that replaces it late in the run; None for none.
      mix: the mixing of a training batch; None for none.
      abstract: the state as `jax.ShapeDtypeStruct`s.
      events: the steps at which metrics are logged, the validation split is evaluated and the state is saved.
      jaxpr: the training step, traced by shapes.
    """

    config: Config
    splits: SplitPlan
    layout: Layout
    devices: ShardedStep
    clock: RunLength
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
        """The number of steps of the run."""
        return self.clock.total_steps or 0

    @property
    def higher_is_better(self) -> bool:
        """Whether higher is better for the validation metric that selects the best checkpoint and drives plateaus."""
        return self.config.evaluation.best == "accuracy"

    @property
    def steps_per_call(self) -> StepsPerCall:
        """The limits of the number of steps in a dispatch."""
        single = self.splits.needs_single_steps or self.devices.needs_single_steps
        return choose_steps_per_call(self.config.steps_per_dispatch, single, self.jaxpr, on_cpu=self.layout.on_cpu)

    @property
    def averages(self) -> bool:
        """Whether evaluation uses averaged parameters instead of the trained ones."""
        return has_average(self.abstract.opt_state)

    @property
    def objective(self) -> Objective:
        """The objective that a training step minimizes."""
        adds = not optimizer_requirements(self.config.optimizer)
        return Objective(self.model, self.loss, self.penalties, self.config.data.micro_batch, adds_gradients=adds)

    @property
    def train_step(self) -> TrainStep:
        """The training step of a whole batch on one device, not compiled."""
        scope = dataclasses.replace(self.devices.batch_norm_scope, axis_name=None)
        in_place = self.layout.one_cpu or self.layout.mesh.size > 1
        return self._make_step(ShardedStep(batch_norm_scope=scope, in_place=in_place))

    @property
    def shared_step(self) -> TrainStep:
        """The training step as the devices of the layout share it, not compiled."""
        return self._make_step(self.devices)

    def _make_step(self, devices: ShardedStep) -> TrainStep:
        step = make_train_step(self.objective, self.optimizer.tx, self.config.seed, devices)
        return apply_matmul_precision(step, self.config.precision.matmul)

    @property
    def abstract_batch(self) -> Batch:
        """The shapes of a training batch."""
        images = abstract_images(self.clock.batch_size, self.splits.image_shape)
        size = images.shape[:1]
        if self.mix is not None:
            soft_labels = jax.ShapeDtypeStruct((*size, self.splits.dataset.num_classes), jnp.float32)
            return Batch(images, soft_labels)  # type: ignore[arg-type]
        return Batch(images, jax.ShapeDtypeStruct(size, jnp.int32))  # type: ignore[arg-type]


def resolve_data_dir(config: Config, override: str | Path | None = None) -> Path | None:
    """Return the directory of data files: `override` (`--data-dir`), else `data.directory`, else JAXTRAIN_DATA."""
    for candidate in (override, config.data.directory, os.environ.get("JAXTRAIN_DATA")):
        if candidate:
            return Path(os.path.expanduser(candidate))  # unlike Path.expanduser, keeps an unknown ~user
    return None


def make_plan(config: Config, data_dir: str | Path | None = None) -> Plan:
    """Build and check the plan of a run.

    Args:
      config: the run's configuration.
      data_dir: the directory of data files, which takes precedence over `data.directory` and JAXTRAIN_DATA.

    Raises:
      ConfigError: the parts of the config do not fit each other, the data or the devices.
      DataError: data files are missing or damaged.
    """
    splits = plan_splits(config.data, resolve_data_dir(config, data_dir))
    clock = _run_length(config.train_for, splits)
    layout = make_layout(config.devices, splits.batch_size, config.parallel)
    devices = pmap_step(layout, splits.batch_size) if config.parallel.backend == "pmap" else shard_step(layout)
    check_steps_per_call(config.steps_per_dispatch, splits.needs_single_steps or devices.needs_single_steps)
    model_spec = apply_precision_policy(config.model, config.precision.policy)
    model = model_spec.build(clock=clock, num_classes=splits.dataset.num_classes)
    initial = _abstract_model(model, model_spec.name, splits.image_shape, config.seed)
    optimizer, multipliers = _plan_optimizer(config, clock, model, initial.params, splits)
    loss: Loss = config.loss.build(clock=clock)
    augment, switch = build_augmentation(config.data, clock, splits.image_shape)
    check_tta(config.evaluation.tta, config.data, clock, model, config.model.name, splits.image_shape, initial)
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
        abstract=initial.replace(opt_state=_trace(jax.eval_shape, optimizer.tx.init, initial.params)),
        events=_plan_events(config, clock),
    )
    layout.partition.check(plan.abstract)
    _check_micro_batches(config.data.micro_batch, plan.clock.batch_size, devices, layout)
    _trace(devices.check, plan.shared_step, plan.abstract, plan.abstract_batch)
    jaxpr = _trace(jax.make_jaxpr(plan.train_step), plan.abstract, plan.abstract_batch)
    return dataclasses.replace(plan, jaxpr=jaxpr)


def add_training_colors(plan: Plan, train: Split) -> Plan:
    """Return the plan with the principal colors of the training split in its augmentations, if any needs them."""
    colors = fit_training_colors(plan.config.data, train)
    if colors is None:
        return plan
    augment, switch = build_augmentation(plan.config.data, plan.clock, plan.splits.image_shape, colors)
    return dataclasses.replace(plan, augment=augment, switch=switch)


def _run_length(train_for: Duration, splits: SplitPlan) -> RunLength:
    clock = RunLength(splits.sizes["train"], splits.batch_size)
    _check_duration(train_for, clock, "train_for")
    return dataclasses.replace(clock, total_steps=train_for.to_step_count(clock, "train_for"))


def _plan_optimizer(
    config: Config, clock: RunLength, model: nn.Module, params: Any, splits: SplitPlan
) -> tuple[RunOptimizer, ByPath]:
    """Build the optimizer and the multipliers of its learning rate, and check them against parameters and run."""
    rules = config.parameters
    optimizer = build_optimizer(config.optimizer, clock, config.seed, config.base_batch_size)
    check_rules(rules, config.optimizer, params)
    check_requirements(config, clock, model, splits.image_shape)
    check_plateau(optimizer, splits.sizes)
    layers = call_order(model, splits.image_shape) if rules.layer_decay is not None else ()
    multipliers = learning_rate_rules(rules, config.optimizer, layers)
    return complete_optimizer(config, clock, optimizer, multipliers), multipliers


def _plan_events(config: Config, clock: RunLength) -> EventSchedule:
    def every(duration: Duration, path: str) -> Every:
        _check_duration(duration, clock, path)
        return Every(duration.exact_steps(clock))

    return EventSchedule(
        log=every(config.logging.every, "logging.every"),
        evaluate=every(config.evaluation.every, "evaluation.every"),
        save=every(config.checkpoint.every, "checkpoint.every"),
        total=clock.total_steps or 0,
    )


def _check_duration(duration: Duration, clock: RunLength, path: str) -> None:
    try:
        steps = duration.steps(clock)
    except ConfigError as error:
        raise error.under(path) from None
    if steps < 1:
        raise ConfigError(f"'{duration}' is less than one step; it must be at least one step", path)


def _abstract_model(model: nn.Module, name: str, image_shape: tuple[int, int, int], seed: int) -> TrainState:
    """Return the abstract state without an optimizer; raise `ConfigError` if the model does not accept the images."""
    h, w, c = image_shape
    try:
        state: TrainState = jax.eval_shape(state_initializer(model, optax.identity(), image_shape, seed))
        return state
    except JaxtrainError:
        raise
    except Exception as error:
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{name} does not accept images of {h}x{w}x{c}: {message}", "model") from error


def _check_micro_batches(most: int | None, batch_size: int, devices: ShardedStep, layout: Layout) -> None:
    """Raise `ConfigError` if a batch cannot be split into micro-batches.

    On a mesh with explicit axes, each micro-batch must divide evenly among the devices.
    """
    if most is None:
        return
    size = devices.local_batch_size(batch_size)
    parts = math.ceil(size / most)
    group_size = devices.batch_norm_scope.size or 1
    if group_size > 1 and size % (parts * group_size):
        raise ConfigError(
            f"{size} examples cannot be split into {parts} micro-batches of complete groups of {group_size} for batch "
            "normalization; choose another data.micro_batch or parallel.batch_norm",
            "data.micro_batch",
        )
    if layout.explicit and size % (parts * layout.shares):
        fitting = [size // n for n in range(1, size + 1) if size % (n * layout.shares) == 0]
        raise ConfigError(
            f"{size} examples in {parts} micro-batches do not divide evenly among {layout.shares} devices, as explicit "
            f"axes require; choose one of {', '.join(map(str, sorted(fitting)))}, or parallel.axis_types=auto",
            "data.micro_batch",
        )


def _trace(trace: Callable[..., Any], *args: Any) -> Any:
    """Return the result of `trace`; convert the `ValueError` of an optimizer, loss or penalty to `ConfigError`."""
    try:
        return trace(*args)
    except ValueError as error:
        raise ConfigError(str(error).splitlines()[0], "optimizer") from error
