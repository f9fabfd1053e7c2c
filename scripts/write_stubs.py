"""Write the type stubs of the packages whose attributes are the factories of a registry.

`jaxtrain.models.resnet50` exists when it is first used; an editor and a type checker read `models/__init__.pyi`
instead. Run this after a registry or the signature of a variant's family has changed; a test compares.

Command: python scripts/write_stubs.py
"""

import ast
import importlib
import inspect
import pkgutil
import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from jaxtrain.registry import Entry, Registry

ROOT = Path(__file__).parent.parent
HEADER = "# Written by scripts/write_stubs.py: what the package offers, for editors and type checkers.\n"


def packages() -> list[str]:
    """Return the names of the packages that publish factories."""
    return [
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in sorted((ROOT / "jaxtrain").rglob("__init__.py"))
        if "publish_factories(" in path.read_text(encoding="utf-8")
    ]


def write_stub(package: str) -> str:
    """Return the text of the stub of `package`: its own names, and the factories of its registries."""
    module = importlib.import_module(package)
    imports: set[str] = set()
    body: list[str] = []
    for node in ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8")).body:
        body += _own_names(node, imports)
    registries: tuple[Registry, ...] = vars(module)["_registries"]
    for submodule in pkgutil.iter_modules(module.__path__):
        if not any(submodule.name in registry for registry in registries):
            imports.add(f"from {package} import {submodule.name} as {submodule.name}")
    for name in sorted({name for registry in registries for name in registry}):
        body += _factory(name, next(registry[name] for registry in registries if name in registry), imports)
    lines = [HEADER.rstrip(), *sorted(imports), "", *body]
    return "\n".join(lines) + "\n"


def _own_names(node: ast.stmt, imports: set[str]) -> list[str]:
    """Return what a statement of the package's `__init__.py` gives the stub; an import goes to `imports`."""
    if isinstance(node, ast.ImportFrom):
        if node.module == "jaxtrain.registry":
            return []
        imports.update(f"from {node.module} import {a.name} as {a.asname or a.name}" for a in node.names)
    if isinstance(node, ast.FunctionDef):
        return [f"def {node.name}({ast.unparse(node.args)}) -> {ast.unparse(node.returns or ast.Name('Any'))}: ..."]
    if isinstance(node, ast.Assign):
        names = [ast.unparse(target) for target in node.targets]
        if names == ["(create, names)"]:
            imports.add("from typing import Any")
            return ["def create(name: str, /, **options: Any) -> Any: ...", "def names() -> list[str]: ..."]
        if isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "Registry":
            imports.add("from jaxtrain.registry import Registry")
            return [f"{names[0]}: Registry"]
    return []


def _factory(name: str, entry: Entry, imports: set[str]) -> list[str]:
    """Return the definition of a variant; a factory that is a row as it stands is imported."""
    module, _, function = entry.factory.partition(":")
    if not entry.preset:
        if name == function:
            imports.add(f"from {module} import {function} as {function}")
            return []
        imports.add(f"from {module} import {function} as _{function}")
        return [f"{name} = _{function}"]
    parameters: list[str] = []
    for parameter in entry.parameters().values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in parameters:
            parameters.append("*")
        default = "" if parameter.default is parameter.empty else f" = {_default(parameter.default)}"
        parameters.append(f"{parameter.name}: {_type(parameter.annotation, imports)}{default}")
    returned = typing.get_type_hints(getattr(importlib.import_module(module), function))["return"]
    return [f"def {name}({', '.join(parameters)}) -> {_type(returned, imports)}: ..."]


def _default(value: object) -> str:
    return repr(value) if isinstance(value, int | float | str | tuple | None) else "..."


def _type(hint: Any, imports: set[str]) -> str:
    """Return the source of a type; what is not built in is added to `imports`."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _type(hint.__origin__, imports)
    if hint is None or hint is types.NoneType:
        return "None"
    if hint is Ellipsis:
        return "..."
    if isinstance(hint, list):
        return f"[{', '.join(_type(arm, imports) for arm in hint)}]"
    if origin in (Union, types.UnionType):
        return " | ".join(_type(arm, imports) for arm in get_args(hint))
    if origin is Literal:
        imports.add("from typing import Literal")
        return f"Literal[{', '.join(map(repr, get_args(hint)))}]"
    if origin is not None:
        return f"{_type(origin, imports)}[{', '.join(_type(arm, imports) for arm in get_args(hint))}]"
    if not inspect.isclass(hint) and hint is not Any:
        raise TypeError(f"{hint!r} has no name that a stub can import")
    if hint.__module__ != "builtins":
        imports.add(f"from {hint.__module__} import {hint.__name__}")
    return str(hint.__name__)


def main() -> None:
    """Write the stub of each package beside its `__init__.py`."""
    for package in packages():
        path = ROOT / Path(*package.split(".")) / "__init__.pyi"
        path.write_text(write_stub(package), encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
