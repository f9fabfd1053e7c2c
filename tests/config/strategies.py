"""Hypothesis strategies for all values of a config, derived from annotations; new settings and components are covered
automatically.
"""

import dataclasses
import inspect
import math
import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from hypothesis import strategies as st

from jaxtrain.annotations import Component, Interval, NonEmpty, StepCount
from jaxtrain.config import Config, Duration
from jaxtrain.config.schema import Section
from jaxtrain.config.spec import SPECS, Spec
from jaxtrain.registry import REGISTRY_PATHS, get_registry

for _kind in REGISTRY_PATHS:  # load now, because Hypothesis would count the imports as slow drawing
    for _info in get_registry(_kind).values():
        _info.load()

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
"""Any text that UTF-8 can encode, with quotes, backslashes, brackets and control characters."""

UNITS = ("epochs", "steps", "examples", "%")


def durations(units: tuple[str, ...] = UNITS) -> st.SearchStrategy[Duration]:
    """Draw durations of every size and unit."""
    numbers = st.one_of(st.integers(0, 10**6).map(float), st.floats(0, 1e300))
    return st.builds(Duration, numbers, st.sampled_from(units))


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Draw values of an annotation as a config stores them; raise `TypeError` for an unknown annotation."""
    origin, arms = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _annotated(arms[0], hint.__metadata__)
    if origin in (Union, types.UnionType):
        return st.one_of(st.none() if arm is types.NoneType else values(arm) for arm in arms)
    if origin is Literal:
        return st.sampled_from(arms)
    if origin is tuple and arms[1:] == (Ellipsis,):
        return st.lists(values(arms[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values, arms))
    if isinstance(hint, type) and issubclass(hint, Spec):
        return specs(hint)
    if isinstance(hint, type) and issubclass(hint, Section):
        return sections(hint)
    plain = {
        int: st.integers(-(2**40), 2**40),
        float: st.floats(allow_nan=False, allow_infinity=False),
        str: TEXTS,
        bool: st.booleans(),
        Duration: durations(),
    }
    if hint not in plain:
        raise TypeError(f"there is no strategy for {hint!r}")
    return plain[hint]


def _annotated(hint: Any, marks: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    for mark in marks:
        if isinstance(mark, StepCount):
            return durations()
        if isinstance(mark, Component):
            inner = _nested(mark.kind)
            limits = [m for m in marks if isinstance(m, Interval)]
            return st.one_of(values(Annotated[float, *limits]), inner) if limits else inner
    limits = next((m for m in marks if isinstance(m, Interval)), None)
    if limits is not None:
        return _numbers(hint, limits)
    assert any(isinstance(m, NonEmpty) for m in marks), marks
    return values(hint).filter(bool)


def _nested(kind: str) -> st.SearchStrategy[Any]:
    """Draw nested components lazily, because an optimizer may contain an optimizer."""
    return st.deferred(lambda: specs(SPECS[kind]))


def _numbers(hint: Any, limits: Interval) -> st.SearchStrategy[Any]:
    low, high = max(limits.least, limits.above), min(limits.most, limits.below)
    if hint is int:
        low, high = (None if math.isinf(bound) else math.floor(bound) for bound in (low, high))  # type: ignore[assignment]
        numbers: st.SearchStrategy[Any] = st.integers(low, high)  # type: ignore[arg-type]
    else:
        finite = {"allow_nan": False, "allow_infinity": False}
        numbers = st.floats(None if math.isinf(low) else low, None if math.isinf(high) else high, **finite)
    return numbers.filter(lambda x: limits.above < x < limits.below)


@st.composite
def specs(draw: st.DrawFn, cls: type[Spec]) -> Spec:
    """Draw components of a kind with some options given and the others at their defaults."""
    name = draw(st.sampled_from(get_registry(cls.kind).names()))
    options = {}
    for key, parameter in get_registry(cls.kind)[name].parameters().items():
        needed = parameter.default is inspect.Parameter.empty and key not in get_registry(cls.kind)[name].supplied
        if Path not in get_args(parameter.annotation) and (needed or draw(st.booleans())):
            options[key] = draw(values(parameter.annotation))
    return cls(name, **options)


@st.composite
def sections(draw: st.DrawFn, cls: type[Section]) -> Any:
    """Draw sections of a config, or a whole `Config`."""
    hints = typing.get_type_hints(cls, include_extras=True)
    special = {"data.validation": st.one_of(st.none(), durations(("examples", "%")))}
    settings = {}
    for field in dataclasses.fields(typing.cast(Any, cls)):
        strategy = special.get(f"{cls.path}.{field.name}", values(hints[field.name]))
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if needed or draw(st.booleans()):
            settings[field.name] = draw(strategy)
    return cls(**settings)


def configs() -> st.SearchStrategy[Config]:
    """Draw whole configs; all can be stored, but most cannot train."""
    return sections(Config)
