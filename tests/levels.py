"""Which cases of a parametrized test are slow."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

import pytest


def slow_except(cases: Iterable[Any], *quick: Any) -> list[Any]:
    """Return the cases for `pytest.mark.parametrize`, all of them marked slow but those named."""
    cases = list(cases)
    missing = [name for name in quick if name not in cases]
    assert not missing, f"no such cases: {missing}"
    return [case if case in quick else pytest.param(case, marks=pytest.mark.slow) for case in cases]


def mark_slow_cases(items: Iterable[pytest.Item]) -> None:
    """Mark the cases of parametrized tests slow that `quick_cases` leaves out or `slow_cases` names."""
    for item in items:
        for mark in (*item.iter_markers("quick_cases"), *item.iter_markers("slow_cases")):
            _, _, case = item.name.removesuffix("]").partition("[")
            named = any(fnmatchcase(case, pattern) for pattern in mark.args)
            if named == (mark.name == "slow_cases"):
                item.add_marker(pytest.mark.slow)
