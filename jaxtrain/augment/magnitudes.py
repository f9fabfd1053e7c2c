"""The operations of each policy and their magnitudes, as in torchvision 0.28."""

from typing import NamedTuple

import numpy as np

SIGNED = frozenset(
    ("shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "color", "contrast", "sharpness")
)
"""The operations whose magnitude is negated half of the time."""


class PolicySpace(NamedTuple):
    """The operations and magnitudes from which a policy draws.

    Attributes:
      names: the operations' names; the identity is the last.
      magnitudes: f32[operations, bins]: factors for shears, pixels for shifts, degrees for rotations; the factor minus
        1 for brightness, color, contrast and sharpness; kept bits for posterize; a fraction of white for solarize.
      signed: bool[operations], whether the magnitude may be negated.
    """

    names: tuple[str, ...]
    magnitudes: np.ndarray
    signed: np.ndarray


def _space(bins: int, tops: dict[str, float], first_bits: int, last_bits: int, others: tuple[str, ...]) -> PolicySpace:
    """Return a space: `tops` are the largest magnitudes of ranges from 0, `others` operations without a magnitude."""
    rows = {name: np.linspace(0, top, bins) for name, top in tops.items()}
    rows["posterize"] = np.round(np.linspace(first_bits, last_bits, bins))
    rows["solarize"] = np.linspace(1, 0, bins)
    rows |= {name: np.zeros(bins) for name in others}
    signed = np.array([name in SIGNED for name in rows])
    return PolicySpace(tuple(rows), np.stack(list(rows.values())).astype(np.float32), signed)


def _tops(shear: float, x: float, y: float, rotate: float, factor: float | None) -> dict[str, float]:
    """Return the largest magnitudes; for a `factor` of None without brightness, color, contrast and sharpness."""
    tops = {"shear_x": shear, "shear_y": shear, "translate_x": x, "translate_y": y, "rotate": rotate}
    factors = () if factor is None else ("brightness", "color", "contrast", "sharpness")
    return tops | dict.fromkeys(factors, factor or 0.0)


def autoaugment_space(shape: tuple[int, ...]) -> PolicySpace:
    """Return the ten bins of AutoAugment (Cubuk et al. 2019, arXiv:1805.09501).

    Shifts go up to 150/331 of `shape`, (H, W, C).
    """
    tops = _tops(0.3, 150 / 331 * shape[1], 150 / 331 * shape[0], 30, 0.9)
    return _space(10, tops, 8, 4, ("autocontrast", "equalize", "invert", "identity"))


def randaugment_space(shape: tuple[int, ...], bins: int = 31) -> PolicySpace:
    """Return the 14 operations of RandAugment (Cubuk et al. 2020, arXiv:1909.13719), in AutoAugment's ranges."""
    tops = _tops(0.3, 150 / 331 * shape[1], 150 / 331 * shape[0], 30, 0.9)
    return _space(bins, tops, 8, 4, ("autocontrast", "equalize", "identity"))


def trivialaugment_space(shape: tuple[int, ...], bins: int = 31) -> PolicySpace:
    """Return the wide ranges of TrivialAugment (Müller & Hutter 2021, arXiv:2103.10158).

    Shifts do not depend on the image size.
    """
    del shape
    return _space(bins, _tops(0.99, 32, 32, 135, 0.99), 8, 2, ("autocontrast", "equalize", "identity"))


def augmix_space(shape: tuple[int, ...], all_operations: bool = True) -> PolicySpace:
    """Return the ten bins of AugMix (Hendrycks et al. 2020, arXiv:1912.02781).

    Args:
      shape: the image's shape (H, W, C).
      all_operations: whether to include the operations that are among the corruptions of ImageNet-C.
    """
    tops = _tops(0.3, shape[1] / 3, shape[0] / 3, 30, 0.9 if all_operations else None)
    return _space(10, tops, 4, 0, ("autocontrast", "equalize", "identity"))
