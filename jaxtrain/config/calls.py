"""The parser of components that are written as calls, `name(option=value, ...)`; no code is executed."""

import ast
import warnings
from typing import Any

from jaxtrain.errors import ConfigError, with_article
from jaxtrain.registry import suggest_names

PARSE_ERRORS = (SyntaxError, ValueError, TypeError, MemoryError, RecursionError)
"""The exceptions that `expression` and `ast.literal_eval` raise for a string that is not a Python literal."""


def parse_expression(text: str) -> ast.expr:
    """Parse `text` as a Python expression, without Python's warning about backslashes (of regexes) in strings."""
    with warnings.catch_warnings(action="ignore"):
        return ast.parse(text.strip(), mode="eval").body


def parse_call(text: str, kind: str) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """Split `"name(1, key=[2, 3], other=nested(x=4))"` into `(name, positional options, named options)`.

    A nested call stays a string, which the nested component parses itself.
    """
    try:
        node = parse_expression(text)
        if isinstance(node, ast.Name):
            return node.id, (), {}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            names = [k.arg for k in node.keywords if k.arg is not None]
            twice = next((n for n in names if names.count(n) > 1), None)
            if twice is not None:
                raise ConfigError(f"{node.func.id} got the option {twice!r} twice; remove one", f"{kind}.{twice}")
            options = {str(k.arg): _argument(k.value) for k in node.keywords if k.arg is not None}
            if len(options) == len(node.keywords):
                return node.func.id, tuple(_argument(value) for value in node.args), options
    except PARSE_ERRORS:
        pass
    raise ConfigError(
        f"{text!r} is not {with_article(kind)}; write a name, or name(option=value, ...), such as {suggest_names(kind)}"
    )


def _argument(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return {"none": None, "null": None, "true": True, "false": False}.get(node.id, node.id)
    if isinstance(node, ast.Call):
        return ast.unparse(node)
    if isinstance(node, ast.List):
        return [_argument(item) for item in node.elts]
    return ast.literal_eval(node)
