"""Fixtures of the data tests: the directory of the real data sets, and a separate Python process."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_REAL = Path(os.environ.get("JAXTRAIN_TEST_DATA", _ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """`real_data("mnist")` is the data directory that contains mnist; skips the test if there is none."""

    def directory(name: str) -> Path:
        if not (_REAL / name).is_dir():
            pytest.skip(f"no {name} in {_REAL}; JAXTRAIN_TEST_DATA names the directory of the real data sets")
        return _REAL

    return directory


@pytest.fixture
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`run_python(*arguments)` runs a new Python process that finds the package; returns its exit code and output."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return run
