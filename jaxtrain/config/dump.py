"""A config as JSON and back, equal; and the difference of two configs, path by path."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from jaxtrain.config.coerce import section
from jaxtrain.config.duration import Duration
from jaxtrain.config.schema import LATER, Config
from jaxtrain.config.spec import Spec
from jaxtrain.errors import ConfigError
from jaxtrain.registry import table


def to_json(value: Any) -> Any:
    """A config, or any part of one, as plain dicts, lists, texts and numbers."""
    if isinstance(value, Spec):
        if value.bare and not value.options:
            return value.name
        return {"name": value.name, **{k: to_json(v) for k, v in value.options.items()}}
    if isinstance(value, Duration):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [to_json(v) for v in value]
    return value


def dumps(config: Config) -> str:
    """The resolved config as indented JSON text, ending in a newline."""
    return json.dumps(to_json(config), indent=2) + "\n"


def loads(text: str, where: str = "config") -> Config:
    """The config that `dumps` wrote; `ConfigError` naming `where` when it is not one."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:  # of a number too long or brackets too deep as well
        raise ConfigError(f"{where} is not JSON: {error}") from error
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where} holds no config, but {type(data).__name__}")
    config: Config = section(data, Config)
    return config


def digest(config: Config) -> str:
    """Eight hexadecimal digits that differ where configs differ (`data.directory` and `data.workers` aside).

    A setting that is newer than others counts once it is used: so the digests of before stay what they were.
    """
    leaves = flatten(config)
    for path in _unused(config):
        leaves.pop(path, None)
    return hashlib.sha256(json.dumps(leaves, sort_keys=True).encode()).hexdigest()[:8]


def _unused(section: Any, path: str = "") -> Iterator[str]:
    """Paths of the settings and options marked as later ones that have their default."""
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, Duration):
            yield from _unused(value, f"{path}{field.name}.")
        elif field.metadata.get(LATER) and value == field.default:
            yield f"{path}{field.name}"
        elif isinstance(value, Spec):
            info = table(value.kind)[value.name]
            parameters = info.parameters() if info.later else {}
            for key in info.later:
                if value.options[key] == parameters[key].default:
                    yield f"{path}{field.name}.{key}"


_NOT_WHAT = ("data.directory", "data.workers")


def flatten(config: Config) -> dict[str, Any]:
    """Every leaf by its path, as JSON values; without what says where and how, not what."""
    leaves: dict[str, Any] = {}
    _flatten(to_json(config), "", leaves)
    for path in _NOT_WHAT:
        leaves.pop(path, None)
    return leaves


def _flatten(value: Any, path: str, leaves: dict[str, Any]) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _flatten(inner, f"{path}.{key}" if path else key, leaves)
    else:
        leaves[path] = value


MISSING = "(not there)"


def difference(a: Config, b: Config) -> list[tuple[str, Any, Any]]:
    """`(path, value in a, value in b)` for every leaf that differs, in the order of `a`."""
    left, right = flatten(a), flatten(b)
    paths = [*left, *(p for p in right if p not in left)]
    rows = [(p, left.get(p, MISSING), right.get(p, MISSING)) for p in paths]
    return [(p, x, y) for p, x, y in rows if x != y]
