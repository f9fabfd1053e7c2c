"""The check of a factory's arguments when Python code calls it: the limits that a config's options are held to.

Arrays and tracers pass, since their values may be unknown; so do components that are built already.
"""

import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from jaxtrain.annotations import Component, Interval, NonEmpty, StepCount
from jaxtrain.errors import ConfigError, did_you_mean, with_article


def check_arguments(
    name: str, parameters: Mapping[str, inspect.Parameter], args: Sequence[object], options: Mapping[str, object]
) -> None:
    """Raise `ConfigError` for an argument outside the limits that its parameter's annotation states.

    Python itself reports names and numbers of arguments that the factory does not take.

    Args:
      name: the factory's name, for the message.
      parameters: the factory's parameters by name, with annotations resolved to types.
      args: the positional arguments.
      options: the keyword arguments.
    """
    positional = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    for key, value in {**dict(zip(positional, args, strict=False)), **options}.items():
        if key in parameters:
            try:
                _check(value, parameters[key].annotation)
            except ConfigError as error:
                raise error.under(f"{name}.{key}") from None


def _check(value: object, hint: Any) -> None:
    origin = get_origin(hint)
    if origin is Annotated:
        _check_annotated(value, hint)
    elif origin in (Union, types.UnionType):
        _check_union(value, get_args(hint))
    elif origin is Literal:
        choices = get_args(hint)
        if isinstance(value, str) and value not in choices:
            raise ConfigError(f"unknown value {value!r}{did_you_mean(value, [str(choice) for choice in choices])}")
    elif origin is tuple and isinstance(value, list | tuple | Mapping):
        value = list(value.items()) if isinstance(value, Mapping) else value
        arms = get_args(hint)
        repeated = len(arms) == 2 and arms[1] is Ellipsis
        for item, arm in zip(value, [arms[0]] * len(value) if repeated else arms, strict=False):
            _check(item, arm)
    elif hint in (int, float) and isinstance(value, str | bool):
        raise ConfigError(f"expected a number, got {value!r}")
    elif hint is int and isinstance(value, float):
        raise ConfigError(f"expected an integer, got {value!r}")
    elif hint is bool and isinstance(value, str):
        raise ConfigError(f"expected True or False, got {value!r}")


def _check_annotated(value: object, hint: Any) -> None:
    marks = hint.__metadata__
    component = next((mark for mark in marks if isinstance(mark, Component)), None)
    if isinstance(value, str) and any(isinstance(mark, StepCount) for mark in marks):
        raise ConfigError(f"{value!r} needs the length of a run, which only a config knows; pass a number of steps")
    if component is not None and isinstance(value, str):
        raise ConfigError(f"expected {with_article(component.kind)} and not its name {value!r}; pass what it builds")
    if component is None:
        _check(value, hint.__origin__)
    for mark in marks:
        if isinstance(mark, Interval) and isinstance(value, Real):
            mark.check(typing.cast(float, value), "")
        elif isinstance(mark, NonEmpty) and isinstance(value, str | list | tuple) and not value:
            raise ConfigError("must not be empty")


def _check_union(value: object, arms: tuple[Any, ...]) -> None:
    if value is None:
        return
    errors = []
    for arm in arms:
        try:
            _check(value, arm)
        except ConfigError as error:
            errors.append(error)
        else:
            if arm is not types.NoneType:
                return
    if errors:
        raise ConfigError("; or: ".join(error.message for error in errors))
