"""Annotated types for component options and config fields, with the limits that are checked at load time.

A factory annotates its parameters with these types, and every spec that names the factory is checked against them.
In Python, `PositiveInt` and `Steps` are plain `int`, so calling a factory directly requires nothing from this module.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Annotated, Any

from jaxtrain.errors import ConfigError


@dataclasses.dataclass(frozen=True, repr=False)
class Interval:
    """Limits of a number: `above` and `below` are exclusive, `least` and `most` inclusive."""

    above: float = -math.inf
    least: float = -math.inf
    most: float = math.inf
    below: float = math.inf

    def check(self, value: float, path: str) -> None:
        """Raise `ConfigError` with `path` if `value` is out of range."""
        if not (self.above < value < self.below and self.least <= value <= self.most):
            raise ConfigError(f"{value!r} is out of range; it must be {self}", path)

    def __repr__(self) -> str:
        return f"Interval({self})"  # as signatures show it

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
    """An `Annotated` marker for a number of steps: an int in Python, a duration with a unit in a config."""


@dataclasses.dataclass(frozen=True)
class Component:
    """A mark for a parameter that takes another component: in a config, a spec of `kind`.

    With an `Interval` beside it, the parameter also takes a plain number.
    """

    kind: str


@dataclasses.dataclass(frozen=True)
class NonEmpty:
    """A mark for a string or sequence that must not be empty."""


PositiveInt = Annotated[int, Interval(least=1)]
NonNegativeInt = Annotated[int, Interval(least=0)]
PositiveFloat = Annotated[float, Interval(above=0)]
NonNegativeFloat = Annotated[float, Interval(least=0)]
Fraction = Annotated[float, Interval(least=0, below=1)]
"""A number in [0, 1): momentum, decay rates, label smoothing."""
Probability = Annotated[float, Interval(least=0, most=1)]
LayerDecay = Annotated[float, Interval(above=0, most=1)]
"""A layer's learning rate as a fraction of the next layer's."""
LossScale = Annotated[float, Interval(least=1, most=2**24)]
"""The factor of the loss that keeps float16 gradients from underflowing."""
Seed = Annotated[int, Interval(least=0, below=2**32)]
"""A seed of a run. Keys use 32 bits of it, so a larger seed would repeat the draws of another one."""
Side = Annotated[int, Interval(least=1, most=65_535)]
"""The height or width of an image in pixels, up to the limit of common image formats."""
Margin = Annotated[int, Interval(least=0, most=65_535)]
"""The number of pixels that are added on each side of an image."""
Steps = Annotated[int, Interval(least=0), StepCount()]
InnerOptimizer = Annotated[Any, Component("optimizer")]
"""Another optimizer: an optax transformation in Python, a spec in a config."""
InnerSchedule = Annotated[Any, Component("schedule")]
"""Another schedule, a function `step -> number`."""
Momentum = Annotated[float | Callable[[Any], Any], Interval(least=0, below=1), Component("schedule")]
"""A number in [0, 1), or a schedule of such numbers."""
LearningRate = Annotated[float | Callable[[Any], Any], Interval(least=0), Component("schedule")]
"""A number, or a schedule `step -> number`."""
ByPath = tuple[tuple[str, NonNegativeFloat], ...]
"""Ordered rules `(regex, value)` over parameter paths such as `Conv_0/kernel`; the first match wins."""
