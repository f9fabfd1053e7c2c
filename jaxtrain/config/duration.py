"""Durations with a unit (`"30 epochs"`, `"1000 steps"`, `"50000 examples"`, `"10%"`) and schedules of events."""

import dataclasses
import math
import re
from fractions import Fraction
from typing import Literal, NamedTuple

from jaxtrain.errors import ConfigError, did_you_mean

Unit = Literal["epochs", "steps", "examples", "%"]
_UNITS: dict[str, Unit] = {
    "epoch": "epochs",
    "epochs": "epochs",
    "step": "steps",
    "steps": "steps",
    "example": "examples",
    "examples": "examples",
    "%": "%",
    "percent": "%",
}
_PATTERN = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+)\s*([a-zA-Z%]+)\s*")
MAX_STEPS = 2**31 - 1
"""The largest number of steps of a run; the step counter is an int32."""
_HELP = "write a number and a unit, such as '30 epochs', '1000 steps', '50000 examples' or '10%'"


@dataclasses.dataclass(frozen=True)
class RunLength:
    """The sizes of a run, by which durations convert to steps.

    Attributes:
      examples: the number of examples in an epoch (of the training split).
      batch_size: the number of examples in a step.
      total_steps: the number of steps of the whole run, the base of `%`; None while it is being computed.
    """

    examples: int
    batch_size: int
    total_steps: int | None = None

    def epoch(self, step: int) -> float:
        """Return the epochs completed after `step` steps, as a ratio; batches cross epoch boundaries without a gap."""
        return step * self.batch_size / self.examples


@dataclasses.dataclass(frozen=True)
class Duration:
    """An amount of training: `value` times `unit`.

    Example:
      >>> Duration.parse("5 epochs")
      Duration(value=5.0, unit='epochs')
      >>> Duration.parse("5 epochs").steps(RunLength(examples=1000, batch_size=128))
      40
    """

    value: float
    unit: Unit

    @classmethod
    def parse(cls, text: object) -> "Duration":
        """Parse `"5 epochs"`; raise `ConfigError` if the unit is missing or unknown, or the value is negative."""
        if isinstance(text, Duration):
            return text
        if not isinstance(text, str):
            raise ConfigError(f"{text!r} is not a duration; {_HELP}")
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise ConfigError(f"{text!r} is not a duration; {_HELP}")
        number, unit = match.groups()
        if unit.lower() not in _UNITS:
            raise ConfigError(f"{text!r} has the unknown unit {unit!r}{did_you_mean(unit.lower(), _UNITS)}")
        value = float(number)
        if not math.isfinite(value):
            raise ConfigError(f"{text!r} is not finite; {_HELP}")
        return cls(value, _UNITS[unit.lower()])

    def __str__(self) -> str:
        number = f"{self.value:g}" if float(f"{self.value:g}") == self.value else repr(self.value)
        return f"{number}%" if self.unit == "%" else f"{number} {self.unit}"

    def exact_steps(self, clock: RunLength) -> Fraction:
        """Return the exact number of optimizer steps; an epoch of 100 examples with batch size 64 is 25/16 steps."""
        value = Fraction(repr(self.value))  # from the decimal text, so that 0.1 is exactly 1/10
        if self.unit == "steps":
            return value
        if self.unit == "examples":
            return value / clock.batch_size
        if self.unit == "epochs":
            return value * clock.examples / clock.batch_size
        if clock.total_steps is None:
            raise ConfigError(
                f"'{self}' is a part of the run, whose length is not known here; use epochs, steps or examples"
            )
        return value * clock.total_steps / 100

    def steps(self, clock: RunLength) -> int:
        """Return the first step at which the duration has passed: `exact_steps`, rounded up."""
        return math.ceil(self.exact_steps(clock))

    def to_step_count(self, clock: RunLength, path: str) -> int:
        """Return `steps(clock)`; raise `ConfigError` with `path` if it exceeds `MAX_STEPS`."""
        steps = self.steps(clock)
        if steps > MAX_STEPS:
            raise ConfigError(
                f"'{self}' is {steps:,} steps, but a run has at most {MAX_STEPS:,}; make it shorter", path
            )
        return steps

    def examples(self, available: int) -> int:
        """Return the number of examples, for a duration in `examples` or in `%` of the `available` ones."""
        if self.unit == "examples":
            return round(self.value)
        if self.unit == "%":
            return round(self.value / 100 * available)
        raise ConfigError(f"'{self}' is not an amount of data; use 'N examples' or 'P%'")


@dataclasses.dataclass(frozen=True)
class Every:
    """An event that is due every `interval` steps; the interval is an exact ratio, so that "1 epoch" does not drift."""

    interval: Fraction

    def after(self, step: int) -> int:
        """Return the first step after `step` at which the event is due."""
        steps, times = self.interval.numerator, self.interval.denominator  # integers: the training loop calls this
        count = step * times // steps + 1
        while (due := -(-count * steps // times)) <= step:  # an interval below one step has several events in a step
            count += 1
        return due


class Events(NamedTuple):
    """The actions after a step, in this order."""

    log: bool
    evaluate: bool
    save: bool


@dataclasses.dataclass(frozen=True)
class EventSchedule:
    """The steps at which metrics are logged, the validation split is evaluated and the state is saved.

    All three are due at the last step. The schedule depends only on the step, so that a resumed run does the same as an
    uninterrupted one.
    """

    log: Every
    evaluate: Every
    save: Every
    total: int

    def after(self, step: int) -> int:
        """Return the first step after `step` at which any event is due."""
        return min(self.log.after(step), self.evaluate.after(step), self.save.after(step), self.total)

    def at(self, step: int) -> Events:
        """Return the actions due at `step`; an evaluation or a save also logs the metrics up to that step."""
        last = step == self.total
        evaluate = last or self.evaluate.after(step - 1) == step
        save = last or self.save.after(step - 1) == step
        return Events(log=evaluate or save or self.log.after(step - 1) == step, evaluate=evaluate, save=save)
