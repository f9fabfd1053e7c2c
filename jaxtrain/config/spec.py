"""A component in a config: the name of a table's row and the options for its factory, checked when it is written."""

import inspect
import types
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from jaxtrain.config.annotations import StepCount
from jaxtrain.config.calls import parse_call
from jaxtrain.config.coerce import SPECS as SPECS
from jaxtrain.config.coerce import annotation_marks, coerce
from jaxtrain.config.duration import Clock, Duration
from jaxtrain.errors import ConfigError, did_you_mean, with_article
from jaxtrain.registry import Info, suggest_names, table


class Spec:
    """`name` and `options` of a component of one kind; immutable, equal by content.

    `ModelSpec("mlp", widths=[256])`, `ModelSpec.parse("mlp(widths=[256])")` and `{"name": "mlp", "widths": [256]}`
    in JSON are the same. Options left out take the factory's defaults, which are recorded: a stored spec keeps
    its meaning when a default changes. Raises `ConfigError` for an unknown name, an unknown or missing option,
    a wrong type or a value out of range.
    """

    kind: ClassVar[str]
    name: str
    options: Mapping[str, Any]

    __slots__ = ("name", "options")

    def __init_subclass__(cls, kind: str) -> None:
        cls.kind = kind
        SPECS[kind] = cls

    def __init__(self, name: str, /, *args: Any, **options: Any):
        info = table(self.kind)[name]
        object.__setattr__(self, "name", name)
        checked = _checked_options(self.kind, name, info, args, options)
        object.__setattr__(self, "options", types.MappingProxyType(checked))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable; use .replace({name}=...)")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Spec):
            return NotImplemented
        return (self.kind, self.name, dict(self.options)) == (other.kind, other.name, dict(other.options))

    def __hash__(self) -> int:
        return hash((self.kind, self.name, tuple(sorted(self.options.items(), key=lambda item: item[0]))))

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={_written(v)}' for k, v in self.options.items())})"

    def __repr__(self) -> str:
        return f"{type(self).__name__}.parse({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.name, dict(self.options))

    def replace(self, **changes: Any) -> Self:
        """The same component with some options changed."""
        return type(self)(self.name, **{**self.options, **changes})

    @classmethod
    def parse(cls, value: object) -> Self:
        """A spec from itself, from `"name"` or `"name(option=value, ...)"`, or from its JSON form."""
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            name, args, options = parse_call(value, cls.kind)
            return cls(name, *args, **options)
        if isinstance(value, Mapping) and isinstance(value.get("name"), str):
            return cls(value["name"], **{k: v for k, v in value.items() if k != "name"})
        raise ConfigError(
            f"expected the name of {with_article(cls.kind)}, such as {suggest_names(cls.kind)}, and not {value!r}"
        )

    def build(self, *, clock: Clock | None = None, built: Mapping[str, Any] | None = None, **supplied: Any) -> Any:
        """Calls the factory. Durations become steps by `clock`; `supplied` fills the parameters the row says the run
        fills in, where the options leave them out; `built` are options whose value is there already. A `ValueError`
        of the factory becomes a `ConfigError`.
        """
        info = table(self.kind)[self.name]
        arguments = {k: v for k, v in supplied.items() if k in info.supplied}
        for key, value in self.options.items():
            if built is not None and key in built:
                arguments[key] = built[key]
            elif isinstance(value, Spec):
                arguments[key] = value.build(clock=clock, **supplied)
            else:
                arguments[key] = _in_steps(value, clock, f"{self.kind}.{key}")
        try:
            return info.load()(**arguments)
        except ValueError as error:
            raise ConfigError(str(error), f"{self.kind} {self.name}") from error


class ModelSpec(Spec, kind="model"):
    """A row of `jaxtrain.models`."""


class OptimizerSpec(Spec, kind="optimizer"):
    """A row of `jaxtrain.optim`."""


class ScheduleSpec(Spec, kind="schedule"):
    """A row of the schedules in `jaxtrain.optim`."""


class LossSpec(Spec, kind="loss"):
    """A row of the losses in `jaxtrain.optim`."""


class PenaltySpec(Spec, kind="penalty"):
    """A row of the penalties in `jaxtrain.optim`."""


class GradientTransformSpec(Spec, kind="gradient_transform"):
    """A row of the transforms of gradients in `jaxtrain.optim`."""


class AverageSpec(Spec, kind="average"):
    """A row of the averages of parameters in `jaxtrain.optim`."""


class DatasetSpec(Spec, kind="dataset"):
    """A row of `jaxtrain.data`."""


class AugmentationSpec(Spec, kind="augmentation"):
    """A row of `jaxtrain.augment`."""


class MixingSpec(Spec, kind="mixing"):
    """A row of `jaxtrain.augment.mixing`."""


class PreprocessingSpec(Spec, kind="preprocessing"):
    """A row of `jaxtrain.data.preprocessing`."""


class ViewsSpec(Spec, kind="view"):
    """A row of `jaxtrain.tta`."""


class HostAugmentationSpec(Spec, kind="host_augmentation"):
    """A row of `jaxtrain.augment.decode`."""


class InitializationSpec(Spec, kind="initialization"):
    """A row of `jaxtrain.nn.init`."""


def _checked_options(
    kind: str, name: str, info: Info, args: tuple[Any, ...], options: Mapping[str, Any]
) -> dict[str, Any]:
    parameters = info.parameters()
    positional = [p for p in parameters.values() if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    if len(args) > len(positional):
        takes = ", ".join(p.name for p in positional) or "only named options"
        raise ConfigError(f"{name} got {len(args)} unnamed options, but takes {takes}", kind)
    given = {p.name: value for p, value in zip(positional, args, strict=False)}
    for key, value in options.items():
        if key in given:
            raise ConfigError(f"{name} got the option {key!r} twice", f"{kind}.{key}")
        given[key] = value
    checked: dict[str, Any] = {}
    for key, parameter in parameters.items():
        if key in given:
            checked[key] = coerce(given.pop(key), parameter.annotation, f"{kind}.{key}")
        elif key not in info.supplied:
            if parameter.default is inspect.Parameter.empty:
                raise ConfigError(f"{kind} {name} needs the option {key!r}, which has no default", f"{kind}.{key}")
            checked[key] = _default(parameter)
    if given:
        key = next(iter(given))
        raise ConfigError(f"{kind} {name} has no option {key!r}{did_you_mean(key, parameters)}", f"{kind}.{key}")
    return checked


def _default(parameter: inspect.Parameter) -> Any:
    """A default as a config would write it: a number of steps becomes a duration."""
    if parameter.default is not None and any(isinstance(m, StepCount) for m in annotation_marks(parameter.annotation)):
        return Duration(float(parameter.default), "steps")
    return coerce(parameter.default, parameter.annotation, parameter.name)


def _in_steps(value: Any, clock: Clock | None, path: str) -> Any:
    if isinstance(value, Duration):
        if clock is None:
            raise ConfigError(f"'{value}' needs a training run to be turned into steps", path)
        return value.counted_steps(clock, path)
    if isinstance(value, tuple):
        return tuple(_in_steps(v, clock, path) for v in value)
    return value


def _written(value: Any) -> str:
    if isinstance(value, Spec):
        return str(value)
    if isinstance(value, Duration):
        return repr(str(value))
    if isinstance(value, tuple):
        return "[" + ", ".join(_written(v) for v in value) + "]"
    return repr(value)


def _rebuild(cls: type[Spec], name: str, options: dict[str, Any]) -> Spec:
    return cls(name, **options)
