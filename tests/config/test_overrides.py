"""Overrides: every leaf of a config can be set from the command line and has the value that was written."""

import dataclasses
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtrain.config import AugmentationSpec, Config, Duration, apply_overrides, difference
from jaxtrain.config.schema import Section
from jaxtrain.config.spec import Spec
from jaxtrain.errors import ConfigError
from jaxtrain.registry import get_registry
from tests.config.strategies import durations, values
from tests.conftest import examples, tiny_config

CONFIG = tiny_config(
    optimizer="adamw(multistep(0.1, boundaries=['25%', '50%'], warmup='1 step'), "
    "weight_decay=[('kernel', 1e-4), ('.*', 0)])"
)


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield `(path, annotation)` of everything that an override of `node` can set, with components and sections."""
    members: list[tuple[str, Any, Any]] = []
    if isinstance(node, Section):
        hints = typing.get_type_hints(type(node), include_extras=True)
        fields = dataclasses.fields(typing.cast(Any, node))
        members = [(f.name, hints[f.name], getattr(node, f.name)) for f in fields]
    elif isinstance(node, Spec):
        hints = {k: p.annotation for k, p in get_registry(node.kind)[node.name].parameters().items()}
        members = [(k, hint, node.options.get(k)) for k, hint in hints.items() if Path not in get_args(hint)]
    elif isinstance(node, tuple):
        members = [(str(i), type(item), item) for i, item in enumerate(node) if isinstance(item, Spec | Duration)]
    for name, hint, value in members:
        inner = f"{path}.{name}" if path else name
        yield inner, st.none() | durations(("examples", "%")) if inner == "data.validation" else hint
        yield from leaves(value, inner)


LEAVES = dict(leaves(CONFIG))


def get_value(config: Any, path: str) -> Any:
    """Return the value at a path."""
    for key in path.split("."):
        if isinstance(config, tuple):
            config = config[int(key)]
        else:
            config = config.options.get(key) if isinstance(config, Spec) else getattr(config, key)
    return config


def format_value(value: Any) -> str:
    """Format a value as a user would type it."""
    if isinstance(value, Section):
        fields = dataclasses.fields(typing.cast(Any, value))
        return "{" + ", ".join(f"{f.name!r}: {quote(getattr(value, f.name))}" for f in fields) + "}"
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return quote(value) if isinstance(value, str | tuple) else str(value)


def quote(value: Any) -> str:
    """Format a value inside another value."""
    if isinstance(value, tuple):
        return "[" + ", ".join(map(quote, value)) + "]"
    return repr(str(value)) if isinstance(value, Spec | Duration) else repr(value)


def test_leaves_include_nested_and_empty_settings() -> None:
    """Ensures that the test below covers all kinds of leaves."""
    assert {
        "seed",
        "devices",
        "data.directory",
        "data.resize",
        "data.dataset.like",
        "data.augment.0.probability",
        "model.num_classes",
        "model.widths",
        "optimizer.learning_rate",
        "optimizer.learning_rate.boundaries.1",
        "optimizer.weight_decay",
        "parameters.frozen",
        "checkpoint.every",
    } <= LEAVES.keys()


@pytest.mark.parametrize("path", LEAVES)
@examples(8)
@given(data=st.data())
def test_an_override_sets_exactly_the_written_value(path: str, data: st.DataObject) -> None:
    hint = LEAVES[path]
    section = isinstance(hint, type) and issubclass(hint, Section)
    value = data.draw(hint if isinstance(hint, st.SearchStrategy) else values(hint))
    changed = apply_overrides(CONFIG, [f"{path}={format_value(value)}"])
    assert get_value(changed, path) == value
    assert type(get_value(changed, path)) is type(value)
    if not section:
        elsewhere = [p for p, *_ in difference(CONFIG, changed) if not f"{p}.".startswith(f"{path}.")]
        assert all(path.startswith(f"{p}.") for p in elsewhere)  # for an element, the difference is the whole list


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("optimizer.momentum=0.5", "optimizer.momentum", 0.5),
        (" optimizer.momentum = 0 ", "optimizer.momentum", 0.0),
        ("seed=1_000", "seed", 1000),
        ("devices=NONE", "devices", None),
        ("devices=null", "devices", None),
        ("logging.tensorboard=False", "logging.tensorboard", False),
        ("train_for=5 epochs", "train_for", Duration(5.0, "epochs")),
        ('train_for="5 epochs"', "train_for", Duration(5.0, "epochs")),
        ("data.directory=/some/where", "data.directory", "/some/where"),
        ("data.directory=2024", "data.directory", "2024"),
        ("data.directory=a=b", "data.directory", "a=b"),
        ("data.directory='none'", "data.directory", "none"),
        ("data.resize=32, 32", "data.resize", (32, 32)),
        ("data.augment=", "data.augment", ()),
        ("data.augment.0.probability=1", "data.augment.0.probability", 1.0),
        ("model.widths=[]", "model.widths", ()),
        ("model.widths=(3,)", "model.widths", (3,)),
        ("model.activation=tanh", "model.activation", "tanh"),
        ("parameters.frozen={'fc1': 1, '.*': 0}", "parameters.frozen", (("fc1", 1.0), (".*", 0.0))),
        (r"parameters.frozen=[('fc\d', 1), ('.*', 0)]", "parameters.frozen", ((r"fc\d", 1.0), (".*", 0.0))),
    ],
)
def test_an_override_can_be_written_in_several_ways(override: str, path: str, value: object) -> None:
    changed = apply_overrides(tiny_config(), [override])
    assert get_value(changed, path) == value
    assert type(get_value(changed, path)) is type(value)


def test_an_override_separates_components_of_a_list_by_bars() -> None:
    changed = apply_overrides(CONFIG, ["data.augment=pad_crop(2)|flip_lr(0.1)"])
    assert changed.data.augment == (AugmentationSpec("pad_crop", 2), AugmentationSpec("flip_lr", 0.1))


def test_an_override_replaces_a_component_with_all_its_options() -> None:
    changed = apply_overrides(CONFIG, ["optimizer=adam(1e-3)"])
    assert changed.optimizer.name == "adam"
    assert "momentum" not in changed.optimizer.options


def test_later_overrides_apply_to_the_result_of_earlier_ones() -> None:
    overrides = ["optimizer=sgd(0.1)", "optimizer.momentum=0.1", "optimizer.momentum=0.2"]
    assert apply_overrides(CONFIG, overrides).optimizer.options["momentum"] == 0.2
    with pytest.raises(ConfigError, match=r"^optimizer\.b1: "):
        apply_overrides(CONFIG, [*overrides, "optimizer.b1=0.5"])


def test_overrides_leave_the_original_config_unchanged() -> None:
    config = tiny_config()
    assert apply_overrides(config, []) == config
    changed: Config = apply_overrides(config, ["seed=1", "data.batch_size=8", "model.widths=[9]"])
    assert [p for p, *_ in difference(config, changed)] == ["model.widths", "data.batch_size", "seed"]
    assert config == tiny_config()
