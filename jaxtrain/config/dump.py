"""A config as JSON and back, equal; and the difference of two configs, path by path."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from jaxtrain.config.coerce import section
from jaxtrain.config.duration import Duration
from jaxtrain.config.schema import Config
from jaxtrain.config.spec import Spec
from jaxtrain.errors import ConfigError

VERSION = 1
"""Version of config.json. Raise it with a change that gives a stored config another meaning."""

MISSING = "(not there)"
"""Value of a leaf that only the other config has, in `difference`."""

_NOT_COMPARED = ("data.directory", "data.workers")
"""Settings that say where the data are and how fast they are read: no number of a run depends on them."""


def to_json(value: Any) -> Any:
    """Return a config, or any part of one, as plain dicts, lists, texts and numbers."""
    if isinstance(value, Spec):
        return {"name": value.name, **{k: to_json(v) for k, v in value.options.items()}}
    if isinstance(value, Duration):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [to_json(v) for v in value]
    return value


def dumps(config: Config) -> str:
    """Return the resolved config as indented JSON text, its version first, ending in a newline."""
    return json.dumps({"version": VERSION, **to_json(config)}, indent=2) + "\n"


def loads(text: str, where: str = "config") -> Config:
    """Return the config that `dumps` wrote; `ConfigError` names `where` when it is not one, or of another version."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:  # of a number too long or brackets too deep as well
        raise ConfigError(f"{where} is not JSON: {error}") from error
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where} holds no config, but {type(data).__name__}")
    if "version" not in data:
        raise ConfigError(
            f"{where} has no version: a jaxtrain that was never released wrote it; train again, "
            f'or, where it was written by hand, add "version": {VERSION}'
        )
    if data["version"] != VERSION:
        raise ConfigError(
            f"{where} has version {json.dumps(data['version'])}, and this jaxtrain reads version {VERSION}; "
            "use a newer jaxtrain, or train again"
        )
    config: Config = section({key: value for key, value in data.items() if key != "version"}, Config)
    return config


def digest(config: Config) -> str:
    """Return eight hexadecimal digits of a hash of every leaf that `flatten` returns."""
    return hashlib.sha256(json.dumps(flatten(config), sort_keys=True).encode()).hexdigest()[:8]


def flatten(config: Config) -> dict[str, Any]:
    """Return every leaf by its path, as JSON values, without `data.directory` and `data.workers`."""
    leaves: dict[str, Any] = {}
    _flatten(to_json(config), "", leaves)
    for path in _NOT_COMPARED:
        leaves.pop(path, None)
    return leaves


def _flatten(value: Any, path: str, leaves: dict[str, Any]) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _flatten(inner, f"{path}.{key}" if path else key, leaves)
    else:
        leaves[path] = value


def difference(a: Config, b: Config) -> list[tuple[str, Any, Any]]:
    """Return `(path, value in a, value in b)` for every leaf that differs, in the order of `a`."""
    left, right = flatten(a), flatten(b)
    paths = [*left, *(p for p in right if p not in left)]
    rows = [(p, left.get(p, MISSING), right.get(p, MISSING)) for p in paths]
    return [(p, x, y) for p, x, y in rows if x != y]
