"""Coercion of a value from a config file, an override or JSON to a type annotation, with clear errors."""

import dataclasses
import sys
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from jaxtrain.annotations import Component, Interval, NonEmpty, StepCount
from jaxtrain.config.duration import Duration
from jaxtrain.errors import ConfigError, did_you_mean, with_article
from jaxtrain.registry import suggest_names


def annotation_metadata(hint: Any) -> tuple[Any, ...]:
    """Return the metadata of an `Annotated` type, also inside a union with None."""
    if get_origin(hint) is Annotated:
        return tuple(hint.__metadata__)
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(mark for arm in get_args(hint) for mark in annotation_metadata(arm))
    return ()


SPECS: dict[str, Any] = {}
"""The Spec class of each kind of component; `jaxtrain.config.spec` fills this dict."""


def coerce(value: Any, hint: Any, path: str) -> Any:
    """Convert `value` to the type `hint`, immutable; raise `ConfigError` with `path` if it has another type.

    Lists become tuples, and integers become floats if `hint` is float. `"5 epochs"` becomes a `Duration`,
    `"cosine(peak=0.1)"` a spec. Nothing else is converted, and `True` is not a number.

    Example:
      >>> coerce([1, 2], tuple[float, ...], "optimizer.betas")
      (1.0, 2.0)
      >>> try:
      ...     coerce(True, float, "optimizer.momentum")
      ... except ConfigError as error:
      ...     print(error)
      optimizer.momentum: expected a number, got True (bool)
    """
    try:
        return _coerce(value, hint)
    except ConfigError as error:
        if not path or error.path == path or error.path.startswith(f"{path}."):
            raise
        raise error.under(path) from None


def _coerce(value: Any, hint: Any) -> Any:
    origin = get_origin(hint)
    if origin is Annotated:
        return _coerce_annotated(value, hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _union(value, get_args(hint))
    if origin is Literal:
        return _literal(value, get_args(hint))
    if origin is tuple:
        return _tuple(value, get_args(hint))
    if hint is Duration:
        return Duration.parse(value)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return coerce_section(value, hint)
    if hasattr(hint, "parse"):  # a Spec class; not imported, since the spec module imports this one
        return _parse_spec(value, hint)
    return _scalar(value, hint)


def coerce_section(value: Any, cls: type) -> Any:
    """Convert `value` to the config section `cls`.

    Args:
      value: a section, a mapping of its fields, or a string for the section's `shorthand` field.
      cls: the class of the section.
    """
    if isinstance(value, cls):
        return value
    shorthand: str = getattr(cls, "shorthand", "")
    if isinstance(value, str) and shorthand:
        return cls(**{shorthand: value})
    if not isinstance(value, Mapping):
        expected = f"{with_article(cls.__name__)} or a mapping of its fields"
        raise ConfigError(f"expected {expected}, got {_format_value(value)}")
    fields = {f.name for f in dataclasses.fields(cls)}
    for key in value:
        if key not in fields:
            raise ConfigError(f"there is no setting {key!r}{did_you_mean(str(key), fields)}", str(key))
    return cls(**value)


def _coerce_annotated(value: Any, hint: Any) -> Any:
    marks = hint.__metadata__
    component = next((m for m in marks if isinstance(m, Component)), None)
    number = component is None or any(isinstance(m, Interval) for m in marks)
    if component is not None and not (number and isinstance(value, int | float)):
        return _component(value, component, number)
    if any(isinstance(m, StepCount) for m in marks):
        return Duration.parse(value)
    result = _coerce(value, float if component is not None else hint.__origin__)
    for mark in marks:
        if isinstance(mark, Interval):
            mark.check(result, "")
        elif isinstance(mark, NonEmpty) and not result:
            raise ConfigError("must not be empty")
    return result


def _component(value: Any, mark: Component, number: bool) -> Any:
    if isinstance(value, int | float) or value is None or (callable(value) and not isinstance(value, type)):
        expected = f"a number or {with_article(mark.kind)}" if number else with_article(mark.kind)
        raise ConfigError(f"expected {expected} such as {suggest_names(mark.kind)}, got {_format_value(value)}")
    return _parse_spec(value, SPECS[mark.kind])


def _parse_spec(value: Any, spec: Any) -> Any:
    parse: Callable[[Any], Any] = spec.parse
    try:
        return parse(value)
    except ConfigError as error:
        # The path in the error begins with the kind, as `model.widths`; the caller prepends its own path instead.
        kind: str = spec.kind
        inner = error.path.removeprefix(kind).removeprefix(".") if error.path.startswith(kind) else error.path
        raise ConfigError(error.message, inner) from None


def _union(value: Any, arms: tuple[Any, ...]) -> Any:
    if value is None and types.NoneType in arms:
        return None
    errors = []
    for arm in arms:
        if arm is types.NoneType:
            continue
        try:
            return _coerce(value, arm)
        except ConfigError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    raise ConfigError("; or: ".join(e.message for e in errors))


def _literal(value: Any, choices: tuple[Any, ...]) -> Any:
    if value is None and "none" in choices:  # `norm=none` inside a call is parsed as None
        return "none"
    for choice in choices:
        if value == choice and type(value) is type(choice):
            return choice
    raise ConfigError(f"unknown value {value!r}{did_you_mean(str(value), [str(c) for c in choices])}")


def _tuple(value: Any, arms: tuple[Any, ...]) -> tuple[Any, ...]:
    if isinstance(value, str) and len(arms) == 2 and arms[1] is Ellipsis and hasattr(arms[0], "parse"):
        value = [part for part in (p.strip() for p in value.split("|")) if part]
    if isinstance(value, Mapping):
        value = list(value.items())
    if not isinstance(value, list | tuple):
        raise ConfigError(f"expected a list, got {_format_value(value)}")
    if len(arms) == 2 and arms[1] is Ellipsis:
        return tuple(coerce(v, arms[0], str(i)) for i, v in enumerate(value))
    if len(value) != len(arms):
        raise ConfigError(f"expected {len(arms)} values, got {len(value)}: {list(value)!r}")
    return tuple(coerce(v, arm, str(i)) for i, (v, arm) in enumerate(zip(value, arms, strict=True)))


def _scalar(value: Any, hint: Any) -> Any:
    names = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not -sys.float_info.max <= value <= sys.float_info.max:  # nan, infinities, too large integers
            raise ConfigError(f"expected a finite number, got {value!r}")
        return float(value)
    if hint in names and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    if hint is Path:
        raise ConfigError(
            "a data set has no option for its directory; set data.directory, --data-dir or JAXTRAIN_DATA instead"
        )
    if hint not in names:
        raise TypeError(f"{hint!r} is not a type that a config supports; use one of jaxtrain.annotations")
    raise ConfigError(f"expected {names[typing.cast(type, hint)]}, got {_format_value(value)}")


def _format_value(value: object) -> str:
    return "none" if value is None else f"{value!r} ({type(value).__name__})"
