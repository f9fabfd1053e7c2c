"""The selection of tests: the options `--all` and `--exhaustive`, the markers, and tests selected by id."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests import conftest

pytest_plugins = ["pytester"]
TESTS = """
import pytest

def test_of_a_moment(): pass

@pytest.mark.slow
@pytest.mark.parametrize("case", ["a", "b"])
def test_of_a_minute(case): pass

@pytest.mark.exhaustive
def test_of_an_hour(): pass
"""
CASES = """
import pytest

@pytest.mark.quick_cases("adam*", "sgd-2")
@pytest.mark.parametrize("case", ["adam", "adamw", "sgd-1", "sgd-2"])
def test_named_are_quick(case): pass

@pytest.mark.exhaustive_cases("sgd")
@pytest.mark.slow_cases("adamw")
@pytest.mark.parametrize("case", ["adam", "adamw", "sgd"])
def test_named_are_slow(case): pass
"""
MARKERS = """
[pytest]
markers =
    slow
    exhaustive
    quick_cases(*ids)
    slow_cases(*ids)
    exhaustive_cases(*ids)
"""


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore the settings that the inner run changes, for the later tests of this process."""
    monkeypatch.setenv("XLA_FLAGS", "")
    before = settings.get_current_profile_name()
    yield
    settings.load_profile(before)


@pytest.mark.parametrize(
    ("arguments", "run", "left_out"),
    [
        (["test_three.py"], 1, 3),
        (["test_three.py", "--all"], 3, 1),
        (["test_three.py", "--exhaustive"], 4, 0),
        (["test_three.py", "-m", "slow"], 2, 2),
        (["test_three.py::test_of_a_minute"], 2, 0),
        (["test_three.py::test_of_a_minute[b]"], 1, 0),
        (["test_three.py::test_of_an_hour"], 1, 0),
    ],
)
def test_slow_tests_run_only_on_request(
    pytester: pytest.Pytester, arguments: list[str], run: int, left_out: int
) -> None:
    pytester.makepyfile(test_three=TESTS)
    pytester.makeini(MARKERS)
    done = pytester.inline_run(*arguments, plugins=[conftest])
    done.assertoutcome(passed=run)
    assert sum(len(call.items) for call in done.getcalls("pytest_deselected")) == left_out


@pytest.mark.parametrize(
    ("arguments", "run", "left_out"),
    [
        (["test_cases.py"], 4, 3),
        (["test_cases.py", "--all"], 6, 1),
        (["test_cases.py", "--exhaustive"], 7, 0),
        (["test_cases.py::test_named_are_slow[adamw]"], 1, 0),
    ],
)
def test_markers_select_slow_cases_by_their_ids(
    pytester: pytest.Pytester, arguments: list[str], run: int, left_out: int
) -> None:
    pytester.makepyfile(test_cases=CASES)
    pytester.makeini(MARKERS)
    done = pytester.inline_run(*arguments, plugins=[conftest])
    done.assertoutcome(passed=run)
    assert sum(len(call.items) for call in done.getcalls("pytest_deselected")) == left_out
