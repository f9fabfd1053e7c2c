"""Components written as calls, `name(option=value, ...)`: read as Python, and never run."""

import ast
import warnings
from typing import Any

from jaxtrain.errors import ConfigError, with_article
from jaxtrain.registry import suggest_names

NOT_PYTHON = (SyntaxError, ValueError, TypeError, MemoryError, RecursionError)
"""What `expression` and `ast.literal_eval` raise for a text that is no literal."""


def expression(text: str) -> ast.expr:
    """`text` parsed as Python, without the warning that the backslash in the regex of a rule would give."""
    with warnings.catch_warnings(action="ignore"):
        return ast.parse(text.strip(), mode="eval").body


def parse_call(text: str, kind: str) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """Splits `"name(1, key=[2, 3], other=nested(x=4))"`; a nested call stays text for its own parse."""
    try:
        node = expression(text)
        if isinstance(node, ast.Name):
            return node.id, (), {}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            names = [k.arg for k in node.keywords if k.arg is not None]
            twice = next((n for n in names if names.count(n) > 1), None)
            if twice is not None:
                raise ConfigError(f"{node.func.id} got the option {twice!r} twice", f"{kind}.{twice}")
            options = {str(k.arg): _argument(k.value) for k in node.keywords if k.arg is not None}
            if len(options) == len(node.keywords):
                return node.func.id, tuple(_argument(value) for value in node.args), options
    except NOT_PYTHON:
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
