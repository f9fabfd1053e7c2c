"""Types for the options of components and the fields of the config, with the limits that are checked at load time.

A factory annotates its parameters with these, and every spec that names the factory is held to them.
To Python, `PositiveInt` is `int` and `Steps` is `int`: calling the factory by hand needs nothing from here.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Annotated, Any

from jaxtrain.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Interval:
    """Limits of a number: `above` and `below` are strict, `least` and `most` are allowed values."""

    above: float = -math.inf
    least: float = -math.inf
    most: float = math.inf
    below: float = math.inf

    def check(self, value: float, path: str) -> None:
        """Raises `ConfigError` naming `path` when `value` lies outside."""
        if not (self.above < value < self.below and self.least <= value <= self.most):
            raise ConfigError(f"{value!r} is out of range; it must be {self}", path)

    def __str__(self) -> str:
        signs = (
            (">", self.above, -math.inf),
            (">=", self.least, -math.inf),
            ("<=", self.most, math.inf),
            ("<", self.below, math.inf),
        )
        return " and ".join(f"{sign} {bound}" for sign, bound, none in signs if bound != none)


@dataclasses.dataclass(frozen=True)
class StepCount:
    """Marks a number of steps: an int for Python callers, a duration with a unit in a config."""


@dataclasses.dataclass(frozen=True)
class Component:
    """Marks a parameter that takes another component: in a config, a spec of `kind`; a plain number too where there
    is an `Interval` for it.
    """

    kind: str


@dataclasses.dataclass(frozen=True)
class NonEmpty:
    """Marks a string or sequence that must hold something."""


PositiveInt = Annotated[int, Interval(least=1)]
NonNegativeInt = Annotated[int, Interval(least=0)]
PositiveFloat = Annotated[float, Interval(above=0)]
NonNegativeFloat = Annotated[float, Interval(least=0)]
Fraction = Annotated[float, Interval(least=0, below=1)]
"""A number in [0, 1): momentum, decay rates, label smoothing."""
Probability = Annotated[float, Interval(least=0, most=1)]
LayerDecay = Annotated[float, Interval(above=0, most=1)]
"""What a layer's learning rate is of the next layer's."""
LossScale = Annotated[float, Interval(least=1, most=2**24)]
"""What a loss is multiplied by so that gradients in float16 do not vanish."""
Seed = Annotated[int, Interval(least=0, below=2**32)]
"""Keys are made of 32 bits of a seed: one beyond them would repeat the draws of another."""
Side = Annotated[int, Interval(least=1, most=65_535)]
"""Height or width of an image in pixels, up to what image formats allow."""
Margin = Annotated[int, Interval(least=0, most=65_535)]
"""Pixels added on a side of an image."""
Steps = Annotated[int, Interval(least=0), StepCount()]
InnerOptimizer = Annotated[Any, Component("optimizer")]
"""Another optimizer: an optax transformation, in a config a spec."""
InnerSchedule = Annotated[Any, Component("schedule")]
"""Another schedule `step -> number`."""
Momentum = Annotated[float | Callable[[Any], Any], Interval(least=0, below=1), Component("schedule")]
"""A number in [0, 1), or a schedule of them."""
LearningRate = Annotated[float | Callable[[Any], Any], Interval(least=0), Component("schedule")]
"""A number, or a schedule `step -> number`."""
ByPath = tuple[tuple[str, NonNegativeFloat], ...]
"""Ordered rules `(regex, value)` over parameter paths such as `Conv_0/kernel`; the first match wins."""
