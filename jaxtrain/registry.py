"""Tables of components: one a kind, `name -> Info`, each written out in the package that owns the kind.

A row names its factory as `"module:function"`, so that listing names and refusing a misspelled one imports
neither jax nor the component; the factory is imported when its signature or its result is wanted.
"""

import dataclasses
import functools
import importlib
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jaxtrain.errors import ConfigError, did_you_mean


@dataclasses.dataclass(frozen=True)
class Default:
    """Marks the default of an option that several factories take through one TypedDict, which itself has none."""

    value: Any


@dataclasses.dataclass(frozen=True)
class Info:
    """One row of a table.

    Attributes:
      factory: where the factory lives, as `"package.module:function"`.
      description: one line for `jaxtrain list`.
      paper: the source (author, year, title or identifier), empty where there is none.
      preset: options of the factory that this row has chosen: a variant of a family.
      supplied: parameters of the factory that the run fills in when a config leaves them out (`num_classes`, say).
      needs: what a run must have for it: "full batch" (the same objective at every evaluation), "softmax" (a loss over
        softmax probabilities), "validation" (a validation split), "randomness" (a model that draws at random), "two
        examples" (in a batch) or "sightings" (how often an example was seen).
      couples: whether an optimizer's update of a parameter depends on the others, or is no plain step, so that it
        cannot be multiplied by path.
      facts: published figures of the component that a test holds it to (parameter counts, input shapes).
    """

    factory: str
    description: str
    paper: str = ""
    _: dataclasses.KW_ONLY
    preset: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    supplied: tuple[str, ...] = ()
    needs: str = ""
    couples: bool = False
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def load(self) -> Callable[..., Any]:
        """Imports and returns the factory, with what is preset; the same object each time."""
        return _load(self.factory, tuple(self.preset.items()))

    def parameters(self) -> dict[str, inspect.Parameter]:
        """The factory's parameters by name, with annotations resolved to types (`Annotated` kept).

        Options that it takes as `**options: Unpack[TypedDict]` are among them, one by one.
        """
        factory = _load(self.factory)
        hints = typing.get_type_hints(factory, include_extras=True)
        found: dict[str, inspect.Parameter] = {}
        for name, p in inspect.signature(factory).parameters.items():
            if p.kind is inspect.Parameter.VAR_KEYWORD:
                found |= _unpacked(hints[name])
            else:
                found[name] = p.replace(annotation=hints.get(name, Any))
        return {name: p for name, p in found.items() if name not in self.preset}


def _unpacked(hint: Any) -> dict[str, inspect.Parameter]:
    """The keys of the TypedDict in an `Unpack`, as parameters; `Default` marks their defaults."""
    found = {}
    for key, marked in typing.get_type_hints(typing.get_args(hint)[0], include_extras=True).items():
        (default,) = (mark.value for mark in marked.__metadata__ if isinstance(mark, Default))
        others = tuple(mark for mark in marked.__metadata__ if not isinstance(mark, Default))
        kept = typing.Annotated[(marked.__origin__, *others)] if others else marked.__origin__
        found[key] = inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kept)
    return found


@functools.cache
def _load(factory: str, preset: tuple[tuple[str, Any], ...] = ()) -> Callable[..., Any]:
    module, _, function = factory.partition(":")
    found = typing.cast(Callable[..., Any], getattr(importlib.import_module(module), function))
    if not preset:
        return found
    variant = functools.partial(found, **dict(preset))
    functools.update_wrapper(variant, found)
    del variant.__wrapped__  # type: ignore[attr-defined]  # whose signature has no preset
    return variant


class Table(Mapping[str, Info]):
    """An immutable mapping from a component's name to its row, with `create` and `names`."""

    def __init__(self, kind: str, rows: Mapping[str, Info]):
        self.kind = kind
        self._rows = dict(rows)

    def __getitem__(self, name: str) -> Info:
        try:
            return self._rows[name]
        except KeyError:
            raise ConfigError(f"unknown {self.kind} {name!r}{did_you_mean(name, self._rows)}", self.kind) from None

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def names(self) -> list[str]:
        """The names in the table, sorted."""
        return sorted(self._rows)

    def create(self, name: str, /, **options: Any) -> Any:
        """Calls the factory named `name` with `options`, as its Python signature has them."""
        return self[name].load()(**options)


KINDS: Mapping[str, str] = {
    "model": "jaxtrain.models:MODELS",
    "optimizer": "jaxtrain.optim:OPTIMIZERS",
    "schedule": "jaxtrain.optim:SCHEDULES",
    "loss": "jaxtrain.optim:LOSSES",
    "penalty": "jaxtrain.optim:PENALTIES",
    "gradient_transform": "jaxtrain.optim:GRADIENT_TRANSFORMS",
    "average": "jaxtrain.optim:AVERAGES",
    "dataset": "jaxtrain.data:DATASETS",
    "augmentation": "jaxtrain.augment:AUGMENTATIONS",
    "mixing": "jaxtrain.augment.mixing:MIXINGS",
    "preprocessing": "jaxtrain.data.preprocessing:PREPROCESSING",
    "view": "jaxtrain.tta:VIEWS",
    "host_augmentation": "jaxtrain.augment.decode:HOST_AUGMENTATIONS",
    "initialization": "jaxtrain.nn.init:INITIALIZATIONS",
}
"""Where the table of each kind stands; named, not imported, since the tables' packages depend on this module."""


def table(kind: str) -> Table:
    """The table of `kind`, one of `KINDS`."""
    module, _, name = KINDS[kind].partition(":")
    return typing.cast(Table, getattr(importlib.import_module(module), name))


def suggest_names(kind: str) -> str:
    """Return two or three names of a kind, for messages."""
    return ", ".join(repr(name) for name in table(kind).names()[:3])


class _FactoryPackage(types.ModuleType):
    """A package whose attributes are the factories of its tables: `jaxtrain.optim.sgd` without an early import.

    A factory may live in a submodule of its own name (`jaxtrain/optim/lbfgs.py`). Importing that submodule would bind
    the module under the factory's name; this class leaves the name to the factory.
    """

    _tables: tuple[Table, ...]

    def __getattr__(self, name: str) -> Any:
        for rows in self._tables:
            if name in rows:
                return rows[name].load()
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, types.ModuleType) and any(name in rows for rows in self._tables):
            return
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(name for rows in self._tables for name in rows)})


def publish_factories(package: str, *tables: Table) -> None:
    """Make the factories of `tables` attributes of `package`, the `__name__` of the caller; the first table wins."""
    module = sys.modules[package]
    module.__dict__["_tables"] = tables
    module.__class__ = _FactoryPackage
