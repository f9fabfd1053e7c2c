"""Types of the options that augmentations share, and the ranges that they stand for."""

from typing import Annotated, Literal

from jaxtrain.annotations import Interval, NonNegativeFloat, PositiveFloat, Probability

Range = tuple[float, float]
"""The lowest and highest value of a draw."""
Interpolation = Literal["nearest", "bilinear"]
Color = Probability | tuple[Probability, ...]
"""One number for all channels or one for each, as fractions of the full range: 0 is black, 1 white."""
Fill = Color | Literal["edge", "reflect"]
"""The content outside the image: a color, the nearest edge pixel, or the image reflected about its edge pixels."""

_Angle = Annotated[float, Interval(least=-180, most=180)]
Angles = Annotated[float, Interval(least=0, most=180)] | tuple[_Angle, _Angle]
"""Angles in degrees: `n` for [-n, n], or a pair of bounds."""
_Slant = Annotated[float, Interval(above=-90, below=90)]
Slants = Annotated[float, Interval(least=0, below=90)] | tuple[_Slant, _Slant]
"""Shear angles in degrees: `n` for [-n, n], or a pair of bounds."""
_Shift = Annotated[float, Interval(least=-1, most=1)]
Shifts = Probability | tuple[_Shift, _Shift]
"""Fractions of a side: `f` for [-f, f], or a pair of bounds."""
Ratios = tuple[PositiveFloat, PositiveFloat]
"""Bounds of a positive factor; it is drawn uniformly in its logarithm, so that 1/2 is as likely as 2."""
Strength = NonNegativeFloat | tuple[NonNegativeFloat, NonNegativeFloat]
"""The range of a factor: `s` for [max(0, 1 - s), 1 + s], or a pair of bounds; a factor of 1 changes nothing."""
_Turn = Annotated[float, Interval(least=-0.5, most=0.5)]
Turns = Annotated[float, Interval(least=0, most=0.5)] | tuple[_Turn, _Turn]
"""Fractions of the color circle: `t` for [-t, t], or a pair of bounds."""


def check_order(pair: Range, name: str) -> Range:
    """Return `pair`, (low, high); raise `ValueError` that names the option if low > high."""
    low, high = pair
    if low > high:
        raise ValueError(f"{name} goes from {low} to {high}; write the lower bound first")
    return low, high


def symmetric_range(value: float | Range, name: str) -> Range:
    """Return [-n, n] for a number n, and a pair unchanged."""
    return check_order(value if isinstance(value, tuple) else (-value, value), name)


def factor_range(value: float | Range, name: str) -> Range:
    """Return [max(0, 1 - s), 1 + s] for a number s, and a pair unchanged."""
    return check_order(value if isinstance(value, tuple) else (max(0.0, 1 - value), 1 + value), name)
