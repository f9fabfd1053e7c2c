"""The overrides `path=value` of a command line: `optimizer.momentum=0.95 model=mlp train_for="5 epochs"`."""

import ast
import contextlib
import dataclasses
import typing
from collections.abc import Iterable
from typing import Any

from jaxtrain.config.calls import PARSE_ERRORS, parse_expression
from jaxtrain.config.coerce import coerce
from jaxtrain.config.schema import Config, Section
from jaxtrain.config.spec import Spec
from jaxtrain.errors import ConfigError, did_you_mean
from jaxtrain.registry import get_registry

_WORDS = {"none": None, "null": None, "true": True, "false": False}


def apply_overrides(config: Config, overrides: Iterable[str]) -> Config:
    """Return `config` after applying each `path=value` in turn; raise `ConfigError` with the path that is wrong.

    Example:
      >>> from jaxtrain.config import load_config
      >>> config = apply_overrides(load_config("digits_mlp"), ["data.batch_size=32", "optimizer=adam(0.001)"])
      >>> config.data.batch_size, config.optimizer.name
      (32, 'adam')
    """
    for override in overrides:
        path, sign, text = override.partition("=")
        path = path.strip()
        if not sign or not path:
            raise ConfigError(f"{override!r} is not an override; write PATH=VALUE, such as optimizer.momentum=0.95")
        config = _set(config, path.split("."), text, path)
    return config


def _set(node: Any, keys: list[str], text: str, path: str) -> Any:
    """Return `node` with the leaf at `keys` below it replaced by the value that `text` represents."""
    key, rest = keys[0], keys[1:]
    if isinstance(node, tuple):
        return _set_item(node, key, rest, text, path)
    if not isinstance(node, Section | Spec):
        parent = path.rsplit(".", len(keys))[0]
        raise ConfigError(
            f"{parent} is {_show(node)} and has no setting {key!r}; to replace it, write {parent}=...", path
        )
    hint, current = _member(node, key, path)
    if rest:
        return _replace(node, key, _set(current, rest, text, path), path)
    return _replace(node, key, read(text, hint, path), path)


def _set_item(node: tuple[Any, ...], key: str, rest: list[str], text: str, path: str) -> tuple[Any, ...]:
    if not key.isdecimal() or int(key) >= len(node):
        choices = [str(i) for i in range(len(node))]
        raise ConfigError(f"there is no element {key!r}{did_you_mean(key, choices)}", path)
    index = int(key)
    old = node[index]
    new = _set(old, rest, text, path) if rest else read(text, type(old), path)
    return (*node[:index], new, *node[index + 1 :])


def _member(node: Section | Spec, key: str, path: str) -> tuple[Any, Any]:
    """Return the annotation and the current value of a section's field or a spec's option."""
    if isinstance(node, Spec):
        parameters = get_registry(node.kind)[node.name].parameters()
        if key in parameters:
            return parameters[key].annotation, node.options.get(key)
        if key == "name":
            raise ConfigError(f"the name alone cannot be set; write {path.removesuffix('.name')}=NAME", path)
        raise ConfigError(f"{node.kind} {node.name} has no option {key!r}{did_you_mean(key, parameters)}", path)
    hints = typing.get_type_hints(type(node), include_extras=True)
    fields = [f.name for f in dataclasses.fields(typing.cast(Any, node))]
    if key not in fields:
        raise ConfigError(f"there is no setting {key!r}{did_you_mean(key, fields)}", path)
    return hints[key], getattr(node, key)


def _replace(node: Section | Spec, key: str, value: Any, path: str) -> Any:
    try:
        return node.replace(**{key: value})
    except ConfigError as error:
        raise ConfigError(error.message, path) from None


def read(text: str, hint: Any, path: str) -> Any:
    """Return the value of `text` for the annotation `hint`: a Python literal if it fits, else the string itself."""
    text = text.strip()
    if text.lower() in _WORDS:
        return coerce(_WORDS[text.lower()], hint, path)
    try:
        literal = ast.literal_eval(parse_expression(text))
    except PARSE_ERRORS:
        return coerce(text, hint, path)
    try:
        return coerce(literal, hint, path)
    except ConfigError:
        with contextlib.suppress(ConfigError):
            return coerce(text, hint, path)  # for a string option with a text such as 123
        raise


def _show(node: Any) -> str:
    return "none" if node is None else repr(node)
