"""Descriptions of what a config can say: each setting and each option of a component, with type, default and meaning.

Types and defaults are read from the signatures, and meanings from the sections Args and Attributes of docstrings.
"""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from jaxtrain.annotations import Component, Interval, StepCount
from jaxtrain.config.duration import Duration
from jaxtrain.config.schema import Config, Section
from jaxtrain.config.spec import Spec, format_value
from jaxtrain.errors import with_article
from jaxtrain.registry import get_registry

_SCALARS = {int: "integer", float: "number", str: "text", bool: "true or false", Any: "any value"}


@dataclasses.dataclass(frozen=True)
class Option:
    """One setting of a config or one option of a component.

    Attributes:
      name: the option's name, or the setting's path, such as `data.batch_size`.
      type: the values that it takes, in words.
      default: the default as a config writes it; None where a value is required.
      meaning: the text of its docstring; empty if there is none.
    """

    name: str
    type: str
    default: str | None
    meaning: str


def describe_options(kind: str, name: str) -> list[Option]:
    """Return the options of the component `name`, in the order of its signature.

    Args:
      kind: the kind of component, a key of `jaxtrain.registry.KINDS`.
      name: the name of the registry's entry.

    Raises:
      ConfigError: if there is no such entry.
    """
    entry = get_registry(kind)[name]
    meanings = _meanings(entry.load())
    return [
        Option(
            parameter.name,
            describe_type(parameter.annotation),
            "supplied by the run"
            if parameter.name in entry.supplied
            else _default(parameter.default, required=parameter.default is inspect.Parameter.empty),
            meanings.get(parameter.name, ""),
        )
        for parameter in entry.parameters().values()
    ]


def describe_settings() -> list[Option]:
    """Return every setting of a config with its path, section by section."""
    return list(_settings(Config))


def _settings(section: type[Section]) -> Iterator[Option]:
    hints = typing.get_type_hints(section, include_extras=True)
    meanings = parse_entries(inspect.getdoc(section) or "")
    for field in dataclasses.fields(typing.cast(Any, section)):
        hint = hints[field.name]
        if isinstance(hint, type) and issubclass(hint, Section):
            yield from _settings(hint)
            continue
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        path = f"{section.path}.{field.name}" if section.path else field.name
        yield Option(path, describe_type(hint), _default(default, required), meanings.get(field.name, ""))


def _default(value: object, required: bool) -> str | None:
    return None if required else format_value(value)


def describe_type(hint: Any) -> str:
    """Return the values of a type in words, such as "number >= 0 or a schedule"."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _describe_annotated(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(describe_type(arm) for arm in get_args(hint))
    if origin is Literal:
        return " or ".join(f'"{choice}"' for choice in get_args(hint))
    if origin is tuple:
        arms = get_args(hint)
        if len(arms) == 2 and arms[1] is Ellipsis:
            return f"list of ({describe_type(arms[0])})"
        return f"[{', '.join(describe_type(arm) for arm in arms)}]"
    if hint is types.NoneType:
        return "none"
    if hint is Duration:
        return 'duration, such as "5 epochs"'
    if isinstance(hint, type) and issubclass(hint, Spec):
        return with_article(hint.kind.replace("_", " "))
    return _SCALARS.get(hint, getattr(hint, "__name__", str(hint)))


def _describe_annotated(hint: Any) -> str:
    limits = " and ".join(str(mark) for mark in hint.__metadata__ if isinstance(mark, Interval) and str(mark))
    if any(isinstance(mark, StepCount) for mark in hint.__metadata__):
        return 'duration, such as "5 epochs"'
    for mark in hint.__metadata__:
        if isinstance(mark, Component):
            component = with_article(mark.kind.replace("_", " "))
            return f"number {limits} or {component}" if limits else component
    return f"{describe_type(hint.__origin__)} {limits}".strip()


def _meanings(factory: Any) -> dict[str, str]:
    """Return the meanings of a factory's options, those in a TypedDict of shared options included."""
    found = parse_entries(inspect.getdoc(factory) or "")
    signature = inspect.signature(getattr(factory, "func", factory))
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            hints = typing.get_type_hints(getattr(factory, "func", factory), include_extras=True)
            found = {**parse_entries(inspect.getdoc(get_args(hints[name])[0]) or ""), **found}
    return found


def parse_entries(docstring: str) -> dict[str, str]:
    """Return the entries of the sections Args and Attributes of a cleaned docstring, each on one line."""
    found: dict[str, str] = {}
    section, names = "", list[str]()
    for line in docstring.splitlines():
        heading = re.fullmatch(r"(\w+):", line)
        if heading or (line and not line.startswith(" ")):
            section, names = heading[1] if heading else "", []
        if section not in ("Args", "Attributes") or heading:
            continue
        entry = re.match(r" {2,4}(\w+(?:, \w+)*): (.*)", line)
        if entry:
            names = entry[1].split(", ")
            found |= dict.fromkeys(names, entry[2].strip())
        elif line.strip():
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found
