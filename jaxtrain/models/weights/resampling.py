"""Matrices `[new, old]` that resample one axis: bicubic interpolation in two conventions, adaptive average pooling."""

from typing import Literal

import numpy as np

Convention = Literal["torchvision", "timm"]
"""Convention of bicubic interpolation: torchvision aligns corners and samples at points; timm treats positions as areas
and antialiases when it shrinks."""


def bicubic(old: int, new: int, convention: Convention) -> np.ndarray:
    """Return the matrix f64[new, old] of torch's `interpolate(mode="bicubic")`; its rows add up to 1.

    Args:
      old: number of positions before.
      new: number of positions after.
      convention: "torchvision" is `align_corners=True` with a = -0.75 in the cubic kernel, "timm" is `antialias=True`
        with a = -0.5.
    """
    return _align_corners_matrix(old, new) if convention == "torchvision" else _antialias_matrix(old, new)


def adaptive_average(old: int, new: int) -> np.ndarray:
    """Return the matrix f64[new, old] of torch's `adaptive_avg_pool1d`.

    Each new position is the mean of the old positions that it overlaps.
    """
    matrix = np.zeros((new, old))
    for i in range(new):
        window = slice(i * old // new, -(-(i + 1) * old // new))
        matrix[i, window] = 1 / (window.stop - window.start)
    return matrix


def _align_corners_matrix(old: int, new: int) -> np.ndarray:
    matrix = np.zeros((new, old))
    for i in range(new):
        position = i * (old - 1) / (new - 1) if new > 1 else 0.0
        for tap in range(int(position) - 1, int(position) + 3):
            matrix[i, min(max(tap, 0), old - 1)] += _cubic(position - tap, -0.75)
    return matrix


def _antialias_matrix(old: int, new: int) -> np.ndarray:
    matrix = np.zeros((new, old))
    scale = max(old / new, 1.0)  # shrinking widens the kernel
    for i in range(new):
        center = (i + 0.5) * old / new
        for tap in range(max(int(center - 2 * scale + 0.5), 0), min(int(center + 2 * scale + 0.5), old)):
            matrix[i, tap] = _cubic((tap + 0.5 - center) / scale, -0.5)
    return matrix / matrix.sum(axis=1, keepdims=True)


def _cubic(x: float, a: float) -> float:
    """Return the cubic convolution kernel at `x`, with the free parameter `a` (Keys 1981, equation 4)."""
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0
