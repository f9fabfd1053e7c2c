"""Show how two configs or run directories differ: their settings and results, side by side."""

import argparse

NAME = "diff"
HELP = "show how two configs or run directories differ"
EXAMPLES = """\
  jaxtrain diff digits_lenet5 digits_mlp
  jaxtrain diff runs/a runs/b
  jaxtrain diff runs/a/config.json my_config.py
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("a", metavar="A", help="a config file, a recipe or a run directory")
    parser.add_argument("b", metavar="B", help="another one, to compare with A")


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from pathlib import Path

    from rich.console import Console

    from jaxtrain.config import difference, load_config
    from jaxtrain.errors import WorkdirError

    rows = difference(load_config(args.a), load_config(args.b))
    from jaxtrain.reporting.tables import diff_results, difference_table

    console = Console()
    if rows:
        console.print(difference_table(rows, args.a, args.b, "setting"))
    else:
        console.print("the configs are equal")
    files = [Path(x) / "result.json" for x in (args.a, args.b)]
    if all(f.is_file() for f in files):
        try:
            results = diff_results(*files)
        except (OSError, ValueError) as error:
            raise WorkdirError(f"cannot read {files[0]} or {files[1]}: {error}") from error
        console.print(difference_table(results, args.a, args.b, "result"))
    return 0
