"""Print what runs depend on: versions, devices, caches and data directories, and problems with them."""

import argparse

from jaxtrain.cli.arguments import add_data_dir

NAME = "doctor"
HELP = "print versions, devices, caches and data directories"
EXAMPLES = """\
  jaxtrain doctor
  jaxtrain doctor --data-dir ~/data
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    add_data_dir(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from jaxtrain.analysis.doctor import diagnose

    for title, rows in diagnose(args.data_dir).items():
        print(title)
        for name, text in rows:
            print(f"  {name:<22}{text}")
    return 0
