"""List the components that a config can name, or the recipes that are shipped."""

import argparse

NAME = "list"
HELP = "list models, optimizers, schedules, losses, datasets, augmentations, configs and the like"
EXAMPLES = """\
  jaxtrain list models
  jaxtrain list optimizers --json
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
    "views": "view",
    "host_augmentations": "host_augmentation",
    "initializations": "initialization",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("kind", metavar="KIND", choices=[*_KINDS, "configs"], help=", ".join([*_KINDS, "configs"]))
    parser.add_argument("--json", action="store_true", help="print a JSON array")


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    import json

    rows = _configs() if args.kind == "configs" else _components(_KINDS[args.kind])
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        paper = f"  [{row['paper']}]" if row.get("paper") else ""
        print(f"{row['name']:<{width}}  {row['description']}{paper}")
    return 0


def _components(kind: str) -> list[dict[str, str]]:
    from jaxtrain.registry import table

    rows = table(kind)
    return [{"name": n, "description": rows[n].description, "paper": rows[n].paper} for n in rows.names()]


def _configs() -> list[dict[str, str]]:
    """Return the recipes and their variants with their descriptions, read from the files without running them."""
    import ast

    from jaxtrain.config.load import shipped, variants

    rows = []
    for name, path in shipped().items():
        _, colon, variant = name.partition(":")
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        description = variants(path)[variant] if colon else docstring.split("\n")[0]
        rows.append({"name": name, "description": description, "path": str(path)})
    return rows
