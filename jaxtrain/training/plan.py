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
from jaxtrain.config.duration import Every
from jaxtrain.data.dataset import ArraySource
from jaxtrain.data.loader import Batch, Late, Mix
from jaxtrain.data.splits import SplitPlan, plan_splits
from jaxtrain.data.streaming import StreamedSplit
from jaxtrain.distributed.mesh import Layout, make_layout
from jaxtrain.distributed.partition import DATA
from jaxtrain.distributed.sharded_step import Sharing, sharing_of
from jaxtrain.errors import ConfigError, JaxtrainError
from jaxtrain.optim.averages import has_average
from jaxtrain.optim.layer_decay import call_order
from jaxtrain.optim.losses import Loss
from jaxtrain.optim.penalties import Penalty
from jaxtrain.sharding import laid_out
from jaxtrain.training.augmentations import augmentation, training_colors
from jaxtrain.training.event_schedule import Calendar
from jaxtrain.training.mixing import built_mix
from jaxtrain.training.multi_step import Together, check_steps_together, steps_together
from jaxtrain.training.objective import Objective
from jaxtrain.training.optimizer import (
    RunOptimizer,
    build_optimizer,
    check_rules,
    complete_optimizer,
    learning_rate_rules,
    needs,
)
from jaxtrain.training.precision import at_matmul_precision, model_spec
from jaxtrain.training.requirements import abstract_images, check_requirements
from jaxtrain.training.state import TrainState, initializer
from jaxtrain.training.step import TrainStep, make_train_step
from jaxtrain.tta.for_run import check_views


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """A run worked out and checked, without having read an image or compiled a program.

    Attributes:
      config: what it was made from.
      splits: the data set and the sizes of its splits.
      layout: the devices.
      clock: epochs, steps and examples of this run; its `total_steps` is the length.
      model: the Linen module.
      optimizer: with the rules on parameters applied.
      multipliers: of the learning rate, by path.
      loss: a value an example.
      penalties: added to the mean loss.
      augment: of a training batch.
      late: what takes its place late in the run.
      mix: of a training batch.
      abstract: the state as `jax.ShapeDtypeStruct`s.
      calendar: what is due at which step.
      jaxpr: the training step, traced by shapes.
    """

    config: Config
    splits: SplitPlan
    layout: Layout
    clock: Clock
    model: nn.Module
    optimizer: RunOptimizer
    multipliers: ByPath
    loss: Loss
    penalties: tuple[Penalty, ...]
    augment: BatchAugmentation
    late: Late | None
    mix: Mix | None
    abstract: TrainState
    calendar: Calendar
    jaxpr: Any = None

    @property
    def total_steps(self) -> int:
        """Length of the run in steps."""
        return self.clock.total_steps or 0

    @property
    def higher_is_better(self) -> bool:
        """Of the validation metric by which the best checkpoint is kept, and which a plateau watches."""
        return self.config.evaluation.best == "accuracy"

    @property
    def together(self) -> Together:
        """How many steps are dispatched at a time."""
        return steps_together(self.config, self.jaxpr, on_cpu=self.layout.on_cpu)

    @property
    def averages(self) -> bool:
        """Whether evaluation uses other parameters than those that are trained."""
        return has_average(self.abstract.opt_state)

    @property
    def objective(self) -> Objective:
        """What a training step minimizes."""
        sums = not needs(self.config.optimizer)
        return Objective(self.model, self.loss, self.penalties, self.config.data.micro_batch, adds_gradients=sums)

    @property
    def updates_in_place(self) -> bool:
        """Whether all gradients are there before the first update: seen to on a CPU, and where devices add theirs."""
        return self.layout.one_cpu or self.layout.mesh.size > 1

    @property
    def train_step(self) -> TrainStep:
        """The step, yet to be compiled, of a whole batch on one device."""
        statistics = dataclasses.replace(self.layout.statistics, axis_name=None)
        alone = Sharing(statistics=statistics, in_place=self.updates_in_place)
        return at_matmul_precision(
            make_train_step(self.objective, self.optimizer.tx, self.config.seed, alone), self.config
        )

    @property
    def shared_step(self) -> TrainStep:
        """The step as the devices of the layout share it."""
        step = make_train_step(self.objective, self.optimizer.tx, self.config.seed, sharing_of(self.layout))
        return at_matmul_precision(step, self.config)

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
    """Where data files are looked for: `override` (`--data-dir`), `data.directory`, the variable JAXTRAIN_DATA."""
    for candidate in (override, config.data.directory, os.environ.get("JAXTRAIN_DATA")):
        if candidate:
            return Path(os.path.expanduser(candidate))  # which, unlike Path.expanduser, leaves an unknown ~user alone
    return None


def make_plan(config: Config, data_dir: str | Path | None = None) -> Plan:
    """Works a run out. Raises `ConfigError` or `DataError` for everything that could not train."""
    check_steps_together(config)
    splits = plan_splits(config.data, data_directory(config, data_dir))
    clock = Clock(splits.sizes["train"], splits.batch_size)
    _check_time(config.train_for, clock, "train_for")
    total = config.train_for.counted_steps(clock, "train_for")
    clock = dataclasses.replace(clock, total_steps=total)
    layout = make_layout(config.devices, splits.batch_size, config.parallel)
    model = model_spec(config).build(clock=clock, num_classes=splits.dataset.num_classes)
    optimizer = build_optimizer(config, clock)
    begun = _abstract_model(config, model, splits)
    check_rules(config, begun.params)
    images = abstract_images(1, splits.image_shape)
    check_requirements(config, clock, optimizer, tuple(splits.sizes), model, images)
    check_views(config, clock, model, splits.image_shape, begun)
    layers = call_order(model, splits.image_shape) if config.parameters.layer_decay is not None else ()
    multipliers = learning_rate_rules(config, layers)
    loss: Loss = config.loss.build(clock=clock)
    augment, late = augmentation(config, clock, splits.image_shape)
    optimizer = complete_optimizer(config, clock, optimizer, multipliers)
    plan = Plan(
        config=config,
        splits=splits,
        layout=layout,
        clock=clock,
        model=model,
        optimizer=optimizer,
        multipliers=multipliers,
        loss=loss,
        penalties=tuple(spec.build(clock=clock) for spec in config.penalties),
        augment=augment,
        late=late,
        mix=built_mix(config, clock, loss, splits.dataset.num_classes),
        abstract=begun.replace(opt_state=_traced(jax.eval_shape, optimizer.tx.init, begun.params)),
        calendar=Calendar(
            log=_every(config.logging.every, clock, "logging.every"),
            evaluate=_every(config.evaluation.every, clock, "evaluation.every"),
            save=_every(config.checkpoint.every, clock, "checkpoint.every"),
            total=total,
        ),
    )
    layout.partition.check(plan.abstract)
    _check_micro_batches(plan)
    if config.parallel.backend == "pmap":
        _check_pmap(plan)
    if layout.explicit:
        _check_explicit(plan)
    return dataclasses.replace(plan, jaxpr=_traced(jax.make_jaxpr(plan.train_step), plan.abstract, plan.abstract_batch))


def with_training_colors(plan: Plan, train: ArraySource | StreamedSplit) -> Plan:
    """The plan with augmentations that know the colors of the training split, if one of them wants to."""
    colors = training_colors(plan.config, train)
    if colors is None:
        return plan
    augment, late = augmentation(plan.config, plan.clock, plan.splits.image_shape, colors)
    return dataclasses.replace(plan, augment=augment, late=late)


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


def _abstract_model(config: Config, model: nn.Module, splits: SplitPlan) -> TrainState:
    """The shapes of a state without an optimizer, which also shows that model, images and classes fit together."""
    h, w, c = splits.image_shape
    try:
        state: TrainState = jax.eval_shape(initializer(model, optax.identity(), splits.image_shape, config.seed))
        return state
    except JaxtrainError:
        raise
    except Exception as error:
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{config.model.name} does not take images of {h}x{w}x{c}: {message}", "model") from error


def _check_micro_batches(plan: Plan) -> None:
    """Refuses parts of a batch that cannot be dealt: on explicit axes each device has its share of every part."""
    most, layout = plan.config.data.micro_batch, plan.layout
    if most is None:
        return
    size = plan.clock.batch_size // (layout.shares if plan.config.parallel.backend == "pmap" else 1)
    parts = math.ceil(size / most)
    together = layout.statistics.size or 1
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


def _check_explicit(plan: Plan) -> None:
    """Traces the step on its mesh, where a layout that does not fit is an error of types."""
    layout = plan.layout

    def step(state: TrainState, batch: Batch) -> Any:
        return plan.shared_step(state, laid_out(batch, layout.batch))

    state = layout.placed_shapes(plan.abstract, layout.of_state(plan.abstract))
    try:
        layout.traced(step, state, layout.placed_shapes(plan.abstract_batch, layout.replicated))
    except JaxtrainError:
        raise
    except Exception as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(
            f"{plan.config.model.name} cannot be laid out over explicit axes: {first}; use auto", "parallel.axis_types"
        ) from error


def _check_pmap(plan: Plan) -> None:
    """Traces the step of one device, which sees its share of a batch alone."""
    shares = plan.layout.shares

    def part(x: Any) -> Any:
        return jax.ShapeDtypeStruct((shares, x.shape[0] // shares, *x.shape[1:]), x.dtype)

    step = jax.pmap(plan.shared_step, axis_name=DATA, in_axes=(None, 0), out_axes=None)
    _traced(jax.eval_shape, step, plan.abstract, jax.tree.map(part, plan.abstract_batch))


def _traced(trace: Callable[..., Any], *args: Any) -> Any:
    """What abstract evaluation gives; optimizers, losses and penalties say in it what does not fit."""
    try:
        return trace(*args)
    except ValueError as error:
        raise ConfigError(str(error).splitlines()[0], "optimizer") from error
