"""Lengths of training with their unit: `"30 epochs"`, `"1000 steps"`, `"50000 examples"`, `"10%"`."""

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
MOST_STEPS = 2**31 - 1
"""The step counter is an int32."""
_HELP = "write a number and a unit, such as '30 epochs', '1000 steps', '50000 examples' or '10%'"


@dataclasses.dataclass(frozen=True)
class Clock:
    """What turns a duration into steps.

    Attributes:
      examples: examples in an epoch (of the training split).
      batch_size: examples in a step.
      total_steps: steps of the whole run, which `%` refers to; None where that is what is being worked out.
    """

    examples: int
    batch_size: int
    total_steps: int | None = None

    def epoch(self, step: int) -> float:
        """Epochs completed after `step` steps; batches follow each other without a gap, so this is a plain ratio."""
        return step * self.batch_size / self.examples


@dataclasses.dataclass(frozen=True)
class Duration:
    """An amount of training, `value` of `unit`. `Duration.parse("5 epochs") == Duration(5.0, "epochs")`."""

    value: float
    unit: Unit

    @classmethod
    def parse(cls, text: object) -> "Duration":
        """Reads `"5 epochs"`; raises `ConfigError` when the unit is missing or unknown, or the value negative."""
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

    def exact_steps(self, clock: Clock) -> Fraction:
        """The duration in optimizer steps, as the ratio it is: an epoch of 100 examples by 64 is 25/16 steps."""
        value = Fraction(repr(self.value))  # of the decimal as written: 0.1 is a tenth
        if self.unit == "steps":
            return value
        if self.unit == "examples":
            return value / clock.batch_size
        if self.unit == "epochs":
            return value * clock.examples / clock.batch_size
        if clock.total_steps is None:
            raise ConfigError(f"'{self}' refers to the length of the run itself; use epochs, steps or examples here")
        return value * clock.total_steps / 100

    def steps(self, clock: Clock) -> int:
        """The first step at which the duration has passed: `exact_steps`, rounded up."""
        return math.ceil(self.exact_steps(clock))

    def counted_steps(self, clock: Clock, path: str) -> int:
        """`steps`, held to what the step counter of a run can reach; `ConfigError` names `path`."""
        steps = self.steps(clock)
        if steps > MOST_STEPS:
            raise ConfigError(f"'{self}' is {steps:,} steps, and a run counts {MOST_STEPS:,} at the most", path)
        return steps

    def examples(self, available: int) -> int:
        """The duration as a number of examples out of `available`: `examples` as they are, `%` of them."""
        if self.unit == "examples":
            return round(self.value)
        if self.unit == "%":
            return round(self.value / 100 * available)
        raise ConfigError(f"'{self}' is not an amount of data; use 'N examples' or 'P%'")


@dataclasses.dataclass(frozen=True)
class Every:
    """Something that is due each time `interval` steps have passed, a ratio: so "1 epoch" does not drift."""

    interval: Fraction

    def after(self, step: int) -> int:
        """The first step after `step` at which it is due."""
        steps, times = self.interval.numerator, self.interval.denominator  # the training loop asks: no fractions here
        count = step * times // steps + 1
        while (due := -(-count * steps // times)) <= step:  # an interval below one step has several a step
            count += 1
        return due


class Events(NamedTuple):
    """What is done after a step, in this order."""

    log: bool
    evaluate: bool
    save: bool


@dataclasses.dataclass(frozen=True)
class EventSchedule:
    """When metrics are logged, the validation split is evaluated and the state is saved; all three at the end.

    It is a function of the step alone, so that a continued run does what an undisturbed one does.
    """

    log: Every
    evaluate: Every
    save: Every
    total: int

    def after(self, step: int) -> int:
        """The first step after `step` at which anything is due."""
        return min(self.log.after(step), self.evaluate.after(step), self.save.after(step), self.total)

    def at(self, step: int) -> Events:
        """What is due at `step`. Metrics are logged before an evaluation or a save too, to leave none behind."""
        last = step == self.total
        evaluate = last or self.evaluate.after(step - 1) == step
        save = last or self.save.after(step - 1) == step
        return Events(log=evaluate or save or self.log.after(step - 1) == step, evaluate=evaluate, save=save)
