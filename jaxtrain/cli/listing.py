"""List the components that a config can name, the settings of a config, or the recipes that are shipped."""

import argparse
from fnmatch import fnmatchcase
from typing import Any

NAME = "list"
HELP = "list models, optimizers, schedules, losses, datasets, settings, configs and the like, with their options"
EXAMPLES = """\
  jaxtrain list models "res*"
  jaxtrain list optimizers adamw -v
  jaxtrain list schedules --json
  jaxtrain list settings "data.*"
  jaxtrain list configs
"""
_KINDS = {
    "models": "model",
    "optimizers": "optimizer",
    "schedules": "schedule",
    "losses": "loss",
    "penalties": "penalty",
    "gradient_transforms": "gradient_transform",
    "averages": "average",
    "datasets": "dataset",
    "augmentations": "augmentation",
    "mixings": "mixing",
    "preprocessings": "preprocessing",
    "tta": "tta",
    "decode_transforms": "decode_transform",
    "initializations": "initialization",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    kinds = [*_KINDS, "settings", "configs"]
    parser.add_argument("kind", metavar="KIND", choices=kinds, help=", ".join(kinds))
    parser.add_argument("pattern", metavar="PATTERN", nargs="?", default="*", help='names to list, such as "res*"')
    parser.add_argument("-v", "--verbose", action="store_true", help="print each option with type, default and meaning")
    parser.add_argument("--json", action="store_true", help="print a JSON array, options included")


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    import json

    verbose = args.verbose or args.json
    if args.kind == "settings":
        rows = _settings()
    elif args.kind == "configs":
        rows = _configs()
    else:
        rows = _components(_KINDS[args.kind])
    rows = _matching(rows, args.kind, args.pattern)
    if verbose and args.kind in _KINDS:
        _add_options(rows, _KINDS[args.kind])
    if args.json:
        print(json.dumps(rows, indent=2))
    elif args.kind == "settings":
        for row in rows:
            print("\n".join(_format_option(row, "")))
    else:
        _print_rows(rows)
    return 0


def _matching(rows: list[dict[str, Any]], kind: str, pattern: str) -> list[dict[str, Any]]:
    from jaxtrain.errors import ConfigError, did_you_mean

    matching = [row for row in rows if fnmatchcase(row["name"], pattern)]
    if not matching:
        raise ConfigError(f"no name matches {pattern!r}{did_you_mean(pattern, [row['name'] for row in rows])}", kind)
    return matching


def _components(kind: str) -> list[dict[str, Any]]:
    from jaxtrain.registry import get_registry

    rows = get_registry(kind)
    return [{"name": n, "description": rows[n].description, "paper": rows[n].paper} for n in rows.names()]


def _add_options(rows: list[dict[str, Any]], kind: str) -> None:
    import dataclasses

    from jaxtrain.config.describe import describe_options

    for row in rows:
        row["options"] = [dataclasses.asdict(option) for option in describe_options(kind, row["name"])]


def _settings() -> list[dict[str, Any]]:
    import dataclasses

    from jaxtrain.config.describe import describe_settings

    return [dataclasses.asdict(setting) for setting in describe_settings()]


def _configs() -> list[dict[str, Any]]:
    """Return the recipes and their variants, described by their files' docstrings; the files are parsed, not run."""
    import ast
    import re

    from jaxtrain.config.load import list_recipes, read_variants

    rows = []
    for name, path in list_recipes().items():
        _, colon, variant = name.partition(":")
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        description = read_variants(path)[variant] if colon else docstring.split("\n")[0]
        result = re.search(r"^(Measured in part|Measured|Published only)\b", docstring, re.MULTILINE)
        said = result[1].lower() if result else ""
        rows.append({"name": name, "description": description, "result": said, "path": str(path)})
    return rows


def _print_rows(rows: list[dict[str, Any]]) -> None:
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        note = row.get("paper") or row.get("result")
        print(f"{row['name']:<{width}}  {row['description']}" + (f"  [{note}]" if note else ""))
        for option in row.get("options", ()):
            print("\n".join(_format_option(option, "    ")))


def _format_option(option: dict[str, Any], indent: str) -> list[str]:
    """Return the lines that describe an option: name and default, its type, and its meaning."""
    import shutil
    import textwrap

    default = "required" if option["default"] is None else f"default {option['default']}"
    lines = [f"{indent}{option['name']}: {option['type']} ({default})"]
    inner = f"{indent}    "
    width = max(60, shutil.get_terminal_size((120, 24)).columns)
    return lines + textwrap.wrap(option["meaning"], width, initial_indent=inner, subsequent_indent=inner)
