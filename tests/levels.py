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


def mark_cases(items: Iterable[pytest.Item]) -> None:
    """Mark the cases of parametrized tests slow or exhaustive, as the markers that name cases by their ids say."""
    for item in items:
        _, _, case = item.name.removesuffix("]").partition("[")
        for mark in (*item.iter_markers("quick_cases"), *item.iter_markers("slow_cases")):
            if _is_named(case, mark) == (mark.name == "slow_cases"):
                item.add_marker(pytest.mark.slow)
        if any(_is_named(case, mark) for mark in item.iter_markers("exhaustive_cases")):
            item.add_marker(pytest.mark.exhaustive)


def _is_named(case: str, mark: pytest.Mark) -> bool:
    return any(fnmatchcase(case, pattern) for pattern in mark.args)
