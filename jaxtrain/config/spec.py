"""Component specs: the name of a registry entry and the options of its factory, checked at construction."""

import inspect
import types
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from jaxtrain.annotations import StepCount
from jaxtrain.config.calls import parse_call
from jaxtrain.config.coerce import SPECS as SPECS
from jaxtrain.config.coerce import annotation_metadata, coerce
from jaxtrain.config.duration import Duration, RunLength
from jaxtrain.errors import ConfigError, did_you_mean, with_article
from jaxtrain.registry import Entry, get_registry, suggest_names


class Spec:
    """The name and the options of a component of one kind; immutable, compared by content.

    `ModelSpec("mlp", widths=[256])`, `ModelSpec.parse("mlp(widths=[256])")` and `{"name": "mlp", "widths": [256]}`
    in JSON are equal. Omitted options get the factory's defaults. The spec records them, so a stored spec keeps its
    meaning if a default changes.

    Raises:
      ConfigError: the name is unknown, an option is unknown or missing, or a value has a wrong type or is out of range.

    Example:
      >>> from jaxtrain.config import ScheduleSpec
      >>> print(ScheduleSpec.parse("step(0.1, every='30 epochs')"))
      step(peak=0.1, every='30 epochs', factor=0.1, warmup='0 steps')
    """

    kind: ClassVar[str]
    name: str
    options: Mapping[str, Any]

    __slots__ = ("name", "options")

    def __init_subclass__(cls, kind: str) -> None:
        cls.kind = kind
        SPECS[kind] = cls

    def __init__(self, name: str, /, *args: Any, **options: Any):
        info = get_registry(self.kind)[name]
        object.__setattr__(self, "name", name)
        checked = _check_options(self.kind, name, info, args, options)
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
        return f"{self.name}({', '.join(f'{k}={format_value(v)}' for k, v in self.options.items())})"

    def __repr__(self) -> str:
        return f"{type(self).__name__}.parse({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.name, dict(self.options))

    def replace(self, **changes: Any) -> Self:
        """Return the same component with some options changed."""
        return type(self)(self.name, **{**self.options, **changes})

    @classmethod
    def parse(cls, value: object) -> Self:
        """Return a spec from a spec, from `"name"` or `"name(option=value, ...)"`, or from its JSON form."""
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            name, args, options = parse_call(value, cls.kind)
            return cls(name, *args, **options)
        if isinstance(value, Mapping) and isinstance(value.get("name"), str):
            return cls(value["name"], **{k: v for k, v in value.items() if k != "name"})
        raise ConfigError(
            f"expected the name of {with_article(cls.kind)}, such as {suggest_names(cls.kind)}, got {value!r}"
        )

    def build(self, *, clock: RunLength | None = None, built: Mapping[str, Any] | None = None, **supplied: Any) -> Any:
        """Call the factory with the options and return its result.

        Args:
          clock: the sizes of the run, by which durations convert to steps; None if there is no run.
          built: values that replace options of the same name and are passed as they are.
          **supplied: values for the parameters that the entry lists as `supplied`, where the options omit them.

        Raises:
          ConfigError: the factory raised a `ValueError`, or a duration needs a `clock`.
        """
        info = get_registry(self.kind)[self.name]
        arguments = {k: v for k, v in supplied.items() if k in info.supplied}
        for key, value in self.options.items():
            if built is not None and key in built:
                arguments[key] = built[key]
            elif isinstance(value, Spec):
                arguments[key] = value.build(clock=clock, **supplied)
            else:
                arguments[key] = _convert_durations(value, clock, f"{self.kind}.{key}")
        try:
            return info.load()(**arguments)
        except ValueError as error:
            raise ConfigError(str(error), f"{self.kind} {self.name}") from error


class ModelSpec(Spec, kind="model"):
    """A model of `jaxtrain.models` with its options."""


class OptimizerSpec(Spec, kind="optimizer"):
    """An optimizer of `jaxtrain.optim` with its options."""


class ScheduleSpec(Spec, kind="schedule"):
    """A schedule of `jaxtrain.optim` with its options."""


class LossSpec(Spec, kind="loss"):
    """A loss of `jaxtrain.optim` with its options."""


class PenaltySpec(Spec, kind="penalty"):
    """A penalty of `jaxtrain.optim` with its options."""


class GradientTransformSpec(Spec, kind="gradient_transform"):
    """A gradient transform of `jaxtrain.optim` with its options."""


class AverageSpec(Spec, kind="average"):
    """An average of parameters of `jaxtrain.optim` with its options."""


class DatasetSpec(Spec, kind="dataset"):
    """A data set of `jaxtrain.data` with its options."""


class AugmentationSpec(Spec, kind="augmentation"):
    """An augmentation of `jaxtrain.augment` with its options."""


class MixingSpec(Spec, kind="mixing"):
    """A mixing of `jaxtrain.augment.mixing` with its options."""


class PreprocessingSpec(Spec, kind="preprocessing"):
    """A preprocessing of `jaxtrain.data.preprocessing` with its options."""


class TTASpec(Spec, kind="tta"):
    """A test-time augmentation of `jaxtrain.tta` with its options."""


class DecodeTransformSpec(Spec, kind="decode_transform"):
    """A decode transform of `jaxtrain.augment.decode` with its options."""


class InitializationSpec(Spec, kind="initialization"):
    """A data-dependent initialization of `jaxtrain.nn.init` with its options."""


def _check_options(
    kind: str, name: str, info: Entry, args: tuple[Any, ...], options: Mapping[str, Any]
) -> dict[str, Any]:
    parameters = info.parameters()
    positional = [p for p in parameters.values() if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    if len(args) > len(positional):
        takes = ", ".join(p.name for p in positional) or "only named options"
        raise ConfigError(f"{name} got {len(args)} positional options, but takes {takes}", kind)
    given = {p.name: value for p, value in zip(positional, args, strict=False)}
    for key, value in options.items():
        if key in given:
            raise ConfigError(f"{name} got the option {key!r} twice; remove one", f"{kind}.{key}")
        given[key] = value
    checked: dict[str, Any] = {}
    for key, parameter in parameters.items():
        if key in given:
            checked[key] = coerce(given.pop(key), parameter.annotation, f"{kind}.{key}")
        elif key not in info.supplied:
            if parameter.default is inspect.Parameter.empty:
                raise ConfigError(f"{kind} {name} requires the option {key!r}, which has no default", f"{kind}.{key}")
            checked[key] = _default(parameter)
    if given:
        key = next(iter(given))
        raise ConfigError(f"{kind} {name} has no option {key!r}{did_you_mean(key, parameters)}", f"{kind}.{key}")
    return checked


def _default(parameter: inspect.Parameter) -> Any:
    """Return the default of a parameter in its config form: a number of steps becomes a duration."""
    if parameter.default is not None and any(
        isinstance(m, StepCount) for m in annotation_metadata(parameter.annotation)
    ):
        return Duration(float(parameter.default), "steps")
    return coerce(parameter.default, parameter.annotation, parameter.name)


def _convert_durations(value: Any, clock: RunLength | None, path: str) -> Any:
    if isinstance(value, Duration):
        if clock is None:
            raise ConfigError(f"'{value}' needs a training run to be converted to steps; pass clock to build()", path)
        return value.to_step_count(clock, path)
    if isinstance(value, tuple):
        return tuple(_convert_durations(v, clock, path) for v in value)
    return value


def format_value(value: Any) -> str:
    """Return an option's value as an override would write it."""
    if isinstance(value, Spec):
        return str(value)
    if isinstance(value, Duration):
        return repr(str(value))
    if isinstance(value, tuple):
        return "[" + ", ".join(format_value(v) for v in value) + "]"
    return repr(value)


def _rebuild(cls: type[Spec], name: str, options: dict[str, Any]) -> Spec:
    return cls(name, **options)
