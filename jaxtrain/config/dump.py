"""Functions that write a config as JSON, load an equal config back, and compare two configs path by path."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from jaxtrain.config.coerce import coerce_section
from jaxtrain.config.duration import Duration
from jaxtrain.config.schema import Config
from jaxtrain.config.spec import Spec
from jaxtrain.errors import ConfigError

VERSION = 1
"""The version of config.json. Increase it with each change that alters the meaning of a stored config."""

MISSING = "(not there)"
"""The value in `difference` for a path that only the other config has."""

_NOT_COMPARED = ("data.directory", "data.workers")
"""Settings for the location and reading speed of the data; no result of a run depends on them."""


def to_json(value: Any) -> Any:
    """Return a config, or any part of one, as plain dicts, lists, strings and numbers."""
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
    """Return the config that `dumps` wrote.

    Args:
      text: the JSON text.
      where: the file's name for messages.

    Raises:
      ConfigError: the text is not JSON, is not a config, or has another version.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:  # also for too many digits or too deep nesting
        raise ConfigError(f"{where} is not JSON: {error}") from error
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where} holds a JSON {type(data).__name__}, not a config, which is a JSON object")
    if "version" not in data:
        raise ConfigError(
            f"{where} has no version: an unreleased jaxtrain wrote it; train again, "
            f'or, if you wrote it by hand, add "version": {VERSION}'
        )
    if data["version"] != VERSION:
        raise ConfigError(
            f"{where} has version {json.dumps(data['version'])}, but this jaxtrain reads version {VERSION}; "
            "use a newer jaxtrain, or train again"
        )
    config: Config = coerce_section({key: value for key, value in data.items() if key != "version"}, Config)
    return config


def digest(config: Config) -> str:
    """Return the first eight hexadecimal digits of a hash over all leaves that `flatten` returns."""
    return hashlib.sha256(json.dumps(flatten(config), sort_keys=True).encode()).hexdigest()[:8]


def flatten(config: Config) -> dict[str, Any]:
    """Return all leaves by path, as JSON values, without `data.directory` and `data.workers`."""
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
