"""Every entry of every registry: it resolves, its options can be set in a config, and `jaxtrain list` shows it."""

import importlib
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest

import jaxtrain
from jaxtrain.annotations import Component, PositiveInt, StepCount
from jaxtrain.cli.main import main
from jaxtrain.config import list_recipes
from jaxtrain.config.coerce import annotation_metadata, coerce
from jaxtrain.config.spec import SPECS
from jaxtrain.errors import ConfigError
from jaxtrain.registry import REGISTRY_PATHS, Entry, Registry, get_registry
from tests.every_row import check_every

ROWS = {f"{kind} {name}": info for kind in REGISTRY_PATHS for name, info in get_registry(kind).items()}


def test_each_kind_has_a_registry_without_duplicates() -> None:
    def check(kind: str) -> None:
        rows = get_registry(kind)
        assert rows.kind == kind == SPECS[kind].kind
        assert rows.names() == sorted(rows)
        variants = {(info.factory, tuple(info.preset.items())) for info in rows.values()}
        assert len(rows) == len(variants) > 0  # no component has two names

    check_every({kind: kind for kind in REGISTRY_PATHS}, check)


def test_every_registry_entry_resolves_and_has_a_description() -> None:
    def check(info: Entry) -> None:
        factory = info.load()
        assert callable(factory)
        assert f"{factory.__module__}:{factory.__qualname__}" == info.factory
        assert inspect.getdoc(factory), "a factory has a docstring"
        assert info.description
        assert "\n" not in info.description + info.paper
        assert not info.description.endswith(".")

    check_every(ROWS, check)


def test_options_of_every_registry_entry_have_config_annotations() -> None:
    def check(info: Entry) -> None:
        parameters = info.parameters()
        for parameter in parameters.values():
            assert parameter.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
            assert parameter.annotation is not Any
            for hint in arms(parameter.annotation):
                with pytest.raises(ConfigError):  # not the TypeError of an unknown annotation
                    coerce(object(), hint, parameter.name)
        assert set(info.supplied) <= parameters.keys()

    check_every(ROWS, check)


def arms(hint: Any) -> Iterator[Any]:
    """Yield an annotation and the annotations inside it."""
    yield hint
    inner = get_args(hint)[:1] if get_origin(hint) is Annotated else get_args(hint)
    if any(isinstance(mark, Component) for mark in annotation_metadata(hint)):
        return  # a config gives a component by its spec; other types are for Python callers
    for arm in inner:
        if get_origin(arm) is not None:
            yield from arms(arm)


def test_defaults_of_every_registry_entry_pass_their_own_checks() -> None:
    def check(info: Entry) -> None:
        for parameter in info.parameters().values():
            default = parameter.default
            if default is inspect.Parameter.empty:
                continue
            steps = any(isinstance(mark, StepCount) for mark in annotation_metadata(parameter.annotation))
            written = f"{default} steps" if steps and default is not None else default
            coerced = coerce(written, parameter.annotation, parameter.name)
            assert str(coerced) == written if steps and default is not None else coerced == default

    check_every(ROWS, check)


def test_path_options_of_factories_are_supplied_by_the_run() -> None:
    """A path in a config would tie the config to one machine."""

    def check(info: Entry) -> None:
        for name, parameter in info.parameters().items():
            assert Path not in (parameter.annotation, *get_args(parameter.annotation)) or name in info.supplied

    check_every(ROWS, check)


def test_list_prints_every_registry_entry(capsys: pytest.CaptureFixture[str]) -> None:
    def check(kind: str) -> None:
        names = sorted(list_recipes()) if kind == "config" else get_registry(kind).names()
        assert main(["list", plural(kind), "--json"]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert [row["name"] for row in printed] == names
        assert all(row["description"] for row in printed)
        assert main(["list", plural(kind)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines] == names
        for line, row in zip(lines, printed, strict=True):
            assert row["description"] in line
            assert row.get("paper", "") in line

    check_every({kind: kind for kind in [*REGISTRY_PATHS, "config"]}, check)


def plural(kind: str) -> str:
    """Return the plural of a kind, as the command line names it."""
    return {"loss": "losses", "penalty": "penalties", "tta": "tta"}.get(kind, f"{kind}s")


def make_thing(a: PositiveInt) -> dict[str, int]:
    return {"a": a}


TABLE = Registry("thing", {"one": Entry(factory=f"{__name__}:make_thing", description="one")})


def test_a_registry_creates_by_name_and_refuses_unknown_names() -> None:
    assert TABLE.create("one", a=1) == {"a": 1}
    with pytest.raises(ConfigError, match=r"^make_thing\.a: 0 is out of range; it must be >= 1$"):
        TABLE.create("one", a=0)
    with pytest.raises(ConfigError, match=r"^thing: unknown thing 'onne'; did you mean 'one'\? Known: one$"):
        TABLE.create("onne")
    assert "two" not in TABLE


def test_an_optimizer_is_not_shadowed_by_its_module_of_the_same_name() -> None:
    from jaxtrain.optim.lbfgs import lbfgs

    assert inspect.unwrap(jaxtrain.optim.lbfgs) is lbfgs
    assert "lbfgs" in dir(jaxtrain.optim)


def test_packages_export_the_factories_of_their_registries() -> None:
    def check(kind: str) -> None:
        package = importlib.import_module(REGISTRY_PATHS[kind].partition(":")[0])
        with pytest.raises(AttributeError, match="no attribute 'nothing_of_this_name'"):
            package.nothing_of_this_name  # noqa: B018
        for name, info in get_registry(kind).items():
            assert getattr(package, name) is info.load()
            assert getattr(package, name) is info.load()  # also after the import that the first access made

    check_every({kind: kind for kind in ("model", "dataset", "optimizer", "augmentation")}, check)


def test_a_registry_variant_is_its_family_with_preset_options() -> None:
    models = get_registry("model")
    made = models.create("resnet34", num_classes=3, norm="group")
    assert made == models["resnet"].load()(num_classes=3, depth=34, norm="group")
    assert "depth" not in models["resnet34"].parameters()
    assert inspect.signature(models["resnet34"].load()).parameters["depth"].default == 34
