"""The structure of the package: layers in order, no import cycles, files and functions of readable size."""

import ast
from pathlib import Path

import jaxtrain

PACKAGE = Path(jaxtrain.__file__).parent
FILES = sorted(p for p in PACKAGE.rglob("*.py") if "configs" not in p.relative_to(PACKAGE).parts)
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
NAMES = {
    ".".join(("jaxtrain", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in FILES
}
LAYERS = (
    {"annotations", "arguments", "errors", "registry", "random", "sharding", "step_context"},
    {"config", "xla_cpu"},
    {"nn"},
    {"augment", "models", "optim"},
    {"data"},
    {"distributed", "tta"},
    {"training"},
    {"evaluation"},
    {"reporting"},
    {"run"},
    {"analysis"},
    {"cli"},
    {"__init__", "__main__"},
)
"""Layers from the bottom up: a subpackage imports from its own layer and those below."""


def imports(path: Path) -> set[Path]:
    """Return the files of the package that a file imports at run time, inside functions too."""
    found: set[Path] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.ImportFrom) and node.module:
            found.update(NAMES[n] for alias in node.names if (n := f"{node.module}.{alias.name}") in NAMES)
            if node.module in NAMES and any(f"{node.module}.{alias.name}" not in NAMES for alias in node.names):
                found.add(NAMES[node.module])
        if isinstance(node, ast.Import):
            found.update(NAMES[alias.name] for alias in node.names if alias.name in NAMES)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(TREES[path])
    return found - {path}


def subpackage(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_the_package_has_no_import_cycles() -> None:
    graph = {path: imports(path) for path in FILES}
    done: set[Path] = set()

    def visit(path: Path, above: tuple[Path, ...]) -> None:
        assert path not in above, " -> ".join(str(p.relative_to(PACKAGE)) for p in (*above[above.index(path) :], path))
        if path not in done:
            for other in sorted(graph[path]):
                visit(other, (*above, path))
            done.add(path)

    for path in FILES:
        visit(path, ())


def test_imports_point_to_lower_layers() -> None:
    layer = {name: number for number, subpackages in enumerate(LAYERS) for name in subpackages}
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {other.relative_to(PACKAGE)}"
        for path in FILES
        for other in imports(path)
        if subpackage(other) != "__init__" and layer[subpackage(other)] > layer[subpackage(path)]
    ]
    assert not wrong, "\n".join(wrong)


def test_files_and_functions_have_a_readable_size() -> None:
    long = [f"{path.name}: {len(lines)} lines" for path in FILES if len(lines := path.read_text().splitlines()) > 400]
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[0]
                described = ast.get_docstring(node) is not None
                lines = node.end_lineno - node.lineno + 1  # type: ignore[operator]
                lines -= first.end_lineno - first.lineno + 1 if described else 0  # type: ignore[operator]
                if lines > 55:
                    long.append(f"{path.name}: {node.name} has {lines} lines")
    assert not long, "\n".join(long)


def test_the_package_has_few_very_short_files() -> None:
    """`__init__` files and the files of the command line may be short."""
    short = [
        str(path.relative_to(PACKAGE))
        for path in FILES
        if path.name != "__init__.py" and subpackage(path) != "cli" and len(path.read_text().splitlines()) < 40
    ]
    assert len(short) <= 10, short
    assert sum(subpackage(path) == "training" for path in FILES) <= 16
