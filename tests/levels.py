"""Which cases of a parametrized test are slow."""

from collections.abc import Iterable
from typing import Any

import pytest


def slow_except(cases: Iterable[Any], *quick: Any) -> list[Any]:
    """Return the cases for `pytest.mark.parametrize`, all of them marked slow but those named."""
    cases = list(cases)
    missing = [name for name in quick if name not in cases]
    assert not missing, f"no such cases: {missing}"
    return [case if case in quick else pytest.param(case, marks=pytest.mark.slow) for case in cases]
