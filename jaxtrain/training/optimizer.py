"""Functions that build the optimizer of a run from its config.

The parts are gradient transforms, the optimizer itself, learning rates and freezing by path, and parameter averaging.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import optax

from jaxtrain.annotations import ByPath
from jaxtrain.config import Config, OptimizerSpec, ParametersConfig, RunLength
from jaxtrain.config.spec import Spec
from jaxtrain.errors import ConfigError
from jaxtrain.optim.layer_decay import layer_decay_rules
from jaxtrain.optim.loss_scale import with_loss_scale
from jaxtrain.optim.param_rules import values_by_path, with_rules
from jaxtrain.optim.schedules import Schedule, as_schedule
from jaxtrain.optim.schedules.base import Rate, linear_scaling, range_over_run, schedule_arguments, stateless_rate
from jaxtrain.optim.schedules.on_plateau import Plateau, observe_plateau, plateau_state, with_plateau
from jaxtrain.registry import get_registry


@dataclasses.dataclass(frozen=True, eq=False)
class RunOptimizer:
    """The optimizer of a run, with its learning rate.

    Attributes:
      tx: the complete chain of transformations.
      rate: the learning rate, a function of optimizer state and step; None for an optimizer that has none.
      plateau: the controller of a learning rate that follows the validation metric; None if there is none.
    """

    tx: optax.GradientTransformationExtraArgs
    rate: Rate | None
    plateau: Plateau | None = None

    def observe(self, opt_state: Any, metric: jax.Array, *, higher_is_better: bool) -> Any:
        """Return the optimizer's state after an evaluation with the result `metric`."""
        if self.plateau is None:
            return opt_state
        return observe_plateau(self.plateau, opt_state, metric, higher_is_better=higher_is_better)


def unwrap_specs(spec: OptimizerSpec) -> Iterator[OptimizerSpec]:
    """Yield the spec of an optimizer; if it is a wrapper, yield the spec inside it next, and so on."""
    while True:
        yield spec
        inner = spec.options.get("inner")
        if not isinstance(inner, OptimizerSpec):
            return
        spec = inner


def optimizer_requirements(spec: OptimizerSpec) -> set[str]:
    """Return the requirements of the optimizer, and of any optimizer inside it, on a run."""
    return {get_registry("optimizer")[level.name].requires for level in unwrap_specs(spec)} - {""}


def find_weight_decay(spec: OptimizerSpec) -> float | ByPath:
    """Return the weight decay of the outermost optimizer that has one; 0.0 if none has."""
    return next((x.options["weight_decay"] for x in unwrap_specs(spec) if x.options.get("weight_decay")), 0.0)


def build_optimizer(
    spec: OptimizerSpec, clock: RunLength, seed: int, base_batch_size: int | None = None
) -> RunOptimizer:
    """Build the optimizer that `spec` describes, without gradient transforms, rules by path and averaging.

    Args:
      spec: the optimizer of the config, wrappers included.
      clock: the length of the run, by which durations convert to steps.
      seed: the seed of the run, for optimizers that draw random numbers.
      base_batch_size: the batch size to which the learning rate in the config refers, for linear scaling; None for no
        scaling.

    Raises:
      ConfigError: the optimizer has several plateau schedules, or an option is out of range.
    """
    options = [x.options["learning_rate"] for x in unwrap_specs(spec) if "learning_rate" in x.options]
    rates = [_build_schedule(x, clock) if isinstance(x, Spec) else x for x in options]
    plateaus = {x for x in rates if isinstance(x, Plateau)}
    if len(plateaus) > 1:
        raise ConfigError(
            "the optimizer has several plateau schedules, but a run can follow one; use equal ones",
            "optimizer.learning_rate",
        )

    def scale(value: Any, reduced: Schedule | None) -> Any:
        rate: Any = reduced if isinstance(value, Plateau) else value
        if base_batch_size is None:
            return rate
        return linear_scaling(rate, batch_size=clock.batch_size, base_batch_size=base_batch_size)

    def make(reduced: Schedule | None = None) -> optax.GradientTransformationExtraArgs:
        return _build(spec, clock, seed, [scale(x, reduced) for x in rates])

    if not plateaus:
        schedule = as_schedule(scale(rates[0], None)) if rates else None
        return RunOptimizer(make(), None if schedule is None else stateless_rate(schedule))
    plateau = plateaus.pop()

    def rate(opt_state: Any, step: jax.Array) -> jax.Array:
        state = plateau_state(opt_state)
        return as_schedule(scale(rates[0], lambda count: plateau.value(state, count)))(step)

    return RunOptimizer(with_plateau(make, plateau), rate, plateau)


def _build(spec: OptimizerSpec, clock: RunLength, seed: int, rates: list[Any]) -> optax.GradientTransformationExtraArgs:
    """Build the optimizer of `spec` and those inside it; `rates` are their learning rates, outermost first."""
    built: dict[str, Any] = {}
    if "learning_rate" in spec.options:
        built["learning_rate"], *rates = rates
    if isinstance(spec.options.get("momentum"), Spec):
        built["momentum"] = _build_momentum(spec.options["momentum"], clock)
    if isinstance(spec.options.get("inner"), OptimizerSpec):
        built["inner"] = _build(spec.options["inner"], clock, seed, rates)
    return spec.build(clock=clock, built=built, seed=seed, **schedule_arguments(clock))


def complete_optimizer(config: Config, clock: RunLength, optimizer: RunOptimizer, multipliers: ByPath) -> RunOptimizer:
    """Add gradient transforms, learning rates and freezing by path, averaging and loss scaling to `optimizer`.

    Args:
      config: the run's configuration.
      clock: the length of the run.
      optimizer: the optimizer that `build_optimizer` returned.
      multipliers: the multipliers that `learning_rate_rules` returned.
    """
    before = [spec.build(clock=clock, seed=config.seed) for spec in config.gradients]
    after = [] if config.average is None else [config.average.build(clock=clock, **schedule_arguments(clock))]
    tx = optax.chain(*before, optimizer.tx) if before else optimizer.tx
    tx = with_rules(tx, multipliers, config.parameters.frozen)
    tx = optax.with_extra_args_support(optax.chain(tx, *after) if after else tx)
    if config.precision.policy == "float16":
        tx = with_loss_scale(tx, config.precision.loss_scale, config.precision.loss_scale_interval)
    return dataclasses.replace(optimizer, tx=tx)


def learning_rate_rules(rules: ParametersConfig, optimizer: OptimizerSpec, layers: tuple[str, ...]) -> ByPath:
    """Return the multipliers of the learning rate by path; compute them from `parameters.layer_decay` if it is set.

    Args:
      rules: the section `parameters` of the config.
      optimizer: the optimizer of the config.
      layers: the names of the top-level modules from input to output, for the layer decay.

    Raises:
      ConfigError: both settings are given, or the optimizer updates all parameters jointly.
    """
    multipliers, decay = rules.learning_rate, rules.layer_decay
    if decay is not None:
        if any(value != 1 for _, value in multipliers):
            raise ConfigError(
                "set either parameters.learning_rate or parameters.layer_decay, not both", "parameters.layer_decay"
            )
        multipliers = layer_decay_rules(layers, decay)
    coupled = next((x.name for x in unwrap_specs(optimizer) if get_registry("optimizer")[x.name].coupled), None)
    if coupled and any(value != 1 for _, value in multipliers):
        raise ConfigError(
            f"{coupled} computes the updates of all parameters jointly; parameters.learning_rate and layer_decay are "
            "not supported with it",
            "parameters.learning_rate" if decay is None else "parameters.layer_decay",
        )
    return multipliers


def check_rules(rules: ParametersConfig, optimizer: OptimizerSpec, params: Any) -> None:
    """Raise `ConfigError` if rules by path do not fit the parameters of the model."""
    values_by_path(rules.learning_rate, params, "parameters.learning_rate", all_used=True)
    frozen = values_by_path(rules.frozen, params, "parameters.frozen", all_used=True)
    if not set(jax.tree.leaves(frozen)) <= {0.0, 1.0}:
        raise ConfigError("a value must be 1, which freezes a parameter, or 0, which trains it", "parameters.frozen")
    if all(jax.tree.leaves(frozen)):
        raise ConfigError(
            "every parameter is frozen, so nothing would be trained; set 0 for some of them", "parameters.frozen"
        )
    values_by_path(find_weight_decay(optimizer), params, "optimizer.weight_decay", all_used=True)


def _build_schedule(spec: Spec, clock: RunLength, option: str = "learning_rate") -> Any:
    try:
        return spec.build(clock=clock, **schedule_arguments(clock))
    except ConfigError as error:
        raise ConfigError(error.message, error.path.replace("schedule", f"optimizer.{option}", 1)) from error


def _build_momentum(spec: Spec, clock: RunLength) -> Callable[[Any], Any]:
    """Build a momentum schedule; raise `ConfigError` if it leaves [0, 1) during the run."""
    schedule: Schedule = _build_schedule(spec, clock, "momentum")
    low, high = range_over_run(schedule, clock)
    if not (low >= 0 and high < 1):
        raise ConfigError(
            f"momentum must stay in [0, 1), but {spec} goes from {low:g} to {high:g}", "optimizer.momentum"
        )
    return schedule
