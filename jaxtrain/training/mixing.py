"""`data.mix` of a config as a function of a batch; what cannot be mixed is refused with the reason."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxtrain.augment.mixing.base import Mixing, mixings
from jaxtrain.config import Clock, Config
from jaxtrain.config.spec import MixingSpec, Spec
from jaxtrain.data.loader import Mix
from jaxtrain.errors import ConfigError
from jaxtrain.optim.losses import Loss
from jaxtrain.optim.schedules.on_plateau import Plateau
from jaxtrain.random import MIX, stream
from jaxtrain.registry import table
from jaxtrain.training.schedule_range import of_run, range_over_run


def built_mix(config: Config, clock: Clock, loss: Loss, num_classes: int) -> Mix | None:
    """The mixings of a config in order, with the keys of the run; None where there are none.

    Raises `ConfigError` with the place in `data.mix`.
    """
    if not config.data.mix:
        return None
    _check_loss(config, loss, num_classes)
    mix = mixings([_built(spec, place, clock) for place, spec in enumerate(config.data.mix)], num_classes)
    key = functools.partial(stream, config.seed, MIX)
    return lambda step, images, labels: mix(key(step), step, images, labels)


def _built(spec: MixingSpec, place: int, clock: Clock) -> Mixing:
    path = f"data.mix.{place}"
    if table(spec.kind)[spec.name].needs == "two examples" and clock.batch_size < 2:
        raise ConfigError(f"{spec.name} joins two examples, and a batch has one", path)
    schedules = {name: value for name, value in spec.options.items() if isinstance(value, Spec)}
    try:
        built = {name: _schedule(value, name, clock) for name, value in schedules.items()}
        mixing: Mixing = spec.build(clock=clock, built=built)
    except ConfigError as error:
        raise ConfigError(error.message, path) from error
    return mixing


def _schedule(spec: Spec, option: str, clock: Clock) -> Callable[[Any], Any]:
    """A schedule of shares of 1, looked at over the run."""
    schedule: Any = spec.build(clock=clock, **of_run(clock))
    if isinstance(schedule, Plateau):
        raise ConfigError(f"{spec.name} follows the validation metric, which {option} cannot; choose another schedule")
    low, high = range_over_run(schedule, clock)
    if low < 0 or high > 1:
        raise ConfigError(f"{option} must stay in [0, 1], and {spec} goes from {low:g} to {high:g}")
    return schedule


def _check_loss(config: Config, loss: Loss, num_classes: int) -> None:
    """Holds the loss to taking probabilities; found by shapes."""
    both = jax.ShapeDtypeStruct((2, num_classes), jnp.float32)
    try:
        taken = jax.eval_shape(loss, both, both).shape == (2,)
    except (TypeError, ValueError):
        taken = False
    if not taken:
        raise ConfigError(
            f"{config.data.mix[0].name} makes probabilities of the labels, and the loss {config.loss.name} takes class "
            "numbers alone; choose another loss, such as cross_entropy, or set data.mix=[]",
            "data.mix",
        )
