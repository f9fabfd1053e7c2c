"""The examples in docstrings run as written, and every factory that a config can name has one."""

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

import jaxtrain
from jaxtrain.registry import REGISTRY_PATHS, get_registry

PACKAGE = Path(jaxtrain.__file__).parent
MODULES = [
    ".".join(("jaxtrain", *path.relative_to(PACKAGE).with_suffix("").parts))
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.slow_cases(
    *(
        "jaxtrain.augment.affine_maps",
        "jaxtrain.augment.distortion",
        "jaxtrain.augment.policies",
        "jaxtrain.augment.tones",
    ),
    *("jaxtrain.nn.dropconnect", "jaxtrain.nn.dropout", "jaxtrain.nn.fractional_pooling", "jaxtrain.nn.init.*"),
    *("jaxtrain.nn.marginalization", "jaxtrain.optim.losses"),
)
@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_print_the_documented_output(module: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(module))
    assert tried > 0
    assert not failed


@pytest.mark.parametrize("kind", REGISTRY_PATHS)
def test_every_factory_has_an_example(kind: str) -> None:
    factories = {entry.factory: inspect.getdoc(entry.load()) or "" for entry in get_registry(kind).values()}
    assert [factory for factory, docstring in factories.items() if ">>> " not in docstring] == []
