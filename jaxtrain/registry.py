"""The registry of each kind of component: an immutable mapping from names to entries that name a factory.

The package that owns a kind defines its registry. An entry names its factory as `"module:function"`. Listing names and
rejecting a misspelled one therefore import neither jax nor the component. The factory is imported when its signature is
read or when it is called.
"""

import dataclasses
import functools
import importlib
import inspect
import pkgutil
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jaxtrain.arguments import check_arguments
from jaxtrain.errors import ConfigError, did_you_mean


@dataclasses.dataclass(frozen=True)
class Default:
    """The default of an option in a TypedDict that several factories share; a TypedDict itself has no defaults."""

    value: Any


@dataclasses.dataclass(frozen=True)
class Entry:
    """An entry of a registry.

    Attributes:
      factory: the import path of the factory, as `"package.module:function"`.
      description: one line for `jaxtrain list`.
      paper: the source (author, year, title or identifier); empty if there is none.
      preset: values that this entry fixes for options of the factory, as for a variant of a model family.
      supplied: parameters of the factory that the run supplies if a config omits them, such as `num_classes`.
      requires: a requirement on the run: "full batch" (the same objective at every evaluation), "softmax" (a loss over
        softmax probabilities), "validation" (a validation split), "randomness" (a model that draws at random), "two
        examples" (at least two in a batch) or "example epochs" (the number of epochs in which an example was seen).
      coupled: whether an optimizer's update of one parameter depends on other parameters, or is not a plain step. Such
        an update cannot be scaled by parameter path.
      reference: published reference values that tests compare with the component (parameter counts, input shapes).
    """

    factory: str
    description: str
    paper: str = ""
    _: dataclasses.KW_ONLY
    preset: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    supplied: tuple[str, ...] = ()
    requires: str = ""
    coupled: bool = False
    reference: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def load(self) -> Callable[..., Any]:
        """Import the factory and return it with `preset` applied; the same object at each call.

        The result checks its arguments: called from Python, it raises `ConfigError` where a config would.
        """
        return _load(self.factory, tuple(self.preset.items()))

    def parameters(self) -> dict[str, inspect.Parameter]:
        """Return the factory's parameters by name, with annotations resolved to types (`Annotated` kept).

        Options that it takes as `**options: Unpack[TypedDict]` are listed individually.
        """
        return {name: p for name, p in _parameters(self.factory).items() if name not in self.preset}


@functools.cache
def _parameters(factory: str) -> dict[str, inspect.Parameter]:
    function = _import(factory)
    hints = typing.get_type_hints(function, include_extras=True)
    parameters: dict[str, inspect.Parameter] = {}
    for name, p in inspect.signature(function).parameters.items():
        if p.kind is inspect.Parameter.VAR_KEYWORD:
            parameters |= _unpack_parameters(hints[name])
        else:
            parameters[name] = p.replace(annotation=hints.get(name, Any))
    return parameters


def _unpack_parameters(hint: Any) -> dict[str, inspect.Parameter]:
    """Return the keys of the TypedDict in `hint`, an `Unpack[...]`, as parameters; `Default` holds their defaults."""
    parameters = {}
    for key, annotated in typing.get_type_hints(typing.get_args(hint)[0], include_extras=True).items():
        (default,) = (item.value for item in annotated.__metadata__ if isinstance(item, Default))
        others = tuple(item for item in annotated.__metadata__ if not isinstance(item, Default))
        hint = typing.Annotated[(annotated.__origin__, *others)] if others else annotated.__origin__
        parameters[key] = inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
    return parameters


def _import(factory: str) -> Callable[..., Any]:
    module, _, function = factory.partition(":")
    return typing.cast(Callable[..., Any], getattr(importlib.import_module(module), function))


@functools.cache
def _load(factory: str, preset: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    function = _import(factory)
    fixed = dict(preset)

    @functools.wraps(function)
    def checked(*args: Any, **options: Any) -> Any:
        for name in options.keys() & fixed.keys():
            raise ConfigError(
                f"this variant sets {name}={fixed[name]!r}; use {function.__name__} for another value", name
            )
        check_arguments(function.__name__, _parameters(factory), args, options)
        return function(*args, **options, **fixed)

    if preset:
        variant = functools.partial(function, **fixed)
        checked.__signature__ = inspect.signature(variant)  # type: ignore[attr-defined]
    return checked


class Registry(Mapping[str, Entry]):
    """An immutable mapping from component names to entries, with `create` and `names`."""

    def __init__(self, kind: str, entries: Mapping[str, Entry]):
        self.kind = kind
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> Entry:
        try:
            return self._entries[name]
        except KeyError:
            raise ConfigError(f"unknown {self.kind} {name!r}{did_you_mean(name, self._entries)}", self.kind) from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def names(self) -> list[str]:
        """Return the names in the registry, sorted."""
        return sorted(self._entries)

    def create(self, name: str, /, **options: Any) -> Any:
        """Call the factory of the entry `name` with `options`, the keyword arguments of its Python signature.

        Example:
          >>> from jaxtrain.data import DATASETS
          >>> DATASETS.create("synthetic", height=8, width=8).image_shape
          (8, 8, 3)
        """
        return self[name].load()(**options)


REGISTRY_PATHS: Mapping[str, str] = {
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
    "tta": "jaxtrain.tta:TTA",
    "decode_transform": "jaxtrain.augment.decode:DECODE_TRANSFORMS",
    "initialization": "jaxtrain.nn.init:INITIALIZATIONS",
}
"""The import path of each kind's registry; a path, since the packages with registries import this module."""


def get_registry(kind: str) -> Registry:
    """Return the registry of `kind`, one of `REGISTRY_PATHS`."""
    module, _, name = REGISTRY_PATHS[kind].partition(":")
    return typing.cast(Registry, getattr(importlib.import_module(module), name))


def suggest_names(kind: str) -> str:
    """Return the first three names of a kind as text, for messages."""
    return ", ".join(repr(name) for name in get_registry(kind).names()[:3])


class _FactoryPackage(types.ModuleType):
    """A package whose attributes are the factories of its registries, imported at first use: `jaxtrain.optim.sgd`.

    A factory may live in a submodule of its own name (`jaxtrain/optim/lbfgs.py`). Importing that submodule would bind
    the module to the factory's name; this class prevents that.
    """

    _registries: tuple[Registry, ...]

    def __getattr__(self, name: str) -> Any:
        for registry in self._registries:
            if name in registry:
                return registry[name].load()
        if any(name == module.name for module in pkgutil.iter_modules(self.__path__)):
            return importlib.import_module(f"{self.__name__}.{name}")
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, types.ModuleType) and any(name in registry for registry in self._registries):
            return
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        submodules = (module.name for module in pkgutil.iter_modules(self.__path__))
        return sorted({*super().__dir__(), *submodules, *(name for registry in self._registries for name in registry)})


def publish_factories(package: str, *registries: Registry) -> None:
    """Make the factories of `registries` attributes of `package`.

    Args:
      package: the caller's `__name__`.
      *registries: the registries; for a name in several of them, the first one is used.
    """
    module = sys.modules[package]
    module.__dict__["_registries"] = registries
    module.__class__ = _FactoryPackage
