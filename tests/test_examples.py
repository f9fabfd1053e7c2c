"""The examples in docstrings, run as they stand."""

import doctest
import importlib
from pathlib import Path

import jaxtrain

PACKAGE = Path(jaxtrain.__file__).parent


def test_examples_in_docstrings_give_what_they_say() -> None:
    files = [path for path in sorted(PACKAGE.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]
    assert files
    for path in files:
        name = ".".join(("jaxtrain", *path.relative_to(PACKAGE).with_suffix("").parts))
        failed, tried = doctest.testmod(importlib.import_module(name))
        assert tried > 0
        assert not failed, name
