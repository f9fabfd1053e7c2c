"""Linear maps along one axis, as matrices `[new, old]`: bicubic interpolation in two conventions, adaptive averages."""

from typing import Literal

import numpy as np

Convention = Literal["torchvision", "timm"]
"""torchvision's positions keep their corners where they are and are sampled at points; timm's are areas, smoothed
before they get fewer."""


def bicubic(old: int, new: int, convention: Convention) -> np.ndarray:
    """f64[new, old], rows that add to 1: as torch's `interpolate(mode="bicubic")`.

    Args:
      old: places before.
      new: places after.
      convention: "torchvision" is `align_corners=True` and the cubic of -0.75, "timm" `antialias=True` with -0.5.
    """
    return _corners(old, new) if convention == "torchvision" else _antialiased(old, new)


def adaptive_average(old: int, new: int) -> np.ndarray:
    """f64[new, old]: each new place is the mean of the old ones that it touches; torch's `adaptive_avg_pool1d`."""
    matrix = np.zeros((new, old))
    for i in range(new):
        seen = slice(i * old // new, -(-(i + 1) * old // new))
        matrix[i, seen] = 1 / (seen.stop - seen.start)
    return matrix


def _corners(old: int, new: int) -> np.ndarray:
    matrix = np.zeros((new, old))
    for i in range(new):
        place = i * (old - 1) / (new - 1) if new > 1 else 0.0
        for tap in range(int(place) - 1, int(place) + 3):
            matrix[i, min(max(tap, 0), old - 1)] += _cubic(place - tap, -0.75)
    return matrix


def _antialiased(old: int, new: int) -> np.ndarray:
    matrix = np.zeros((new, old))
    wide = max(old / new, 1.0)  # the kernel is widened where places get fewer
    for i in range(new):
        center = (i + 0.5) * old / new
        for tap in range(max(int(center - 2 * wide + 0.5), 0), min(int(center + 2 * wide + 0.5), old)):
            matrix[i, tap] = _cubic((tap + 0.5 - center) / wide, -0.5)
    return matrix / matrix.sum(axis=1, keepdims=True)


def _cubic(x: float, a: float) -> float:
    """The convolution kernel of Keys 1981, equation 4, with its free parameter."""
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0
