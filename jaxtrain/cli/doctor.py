"""Print what a run depends on: versions, devices, caches and data directories, and what is amiss with them."""

import argparse

from jaxtrain.cli.arguments import add_data_dir

NAME = "doctor"
HELP = "print versions, devices, caches and data directories"
EXAMPLES = """\
  jaxtrain doctor
  jaxtrain doctor --data-dir ~/data
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add_data_dir(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from jaxtrain.analysis.doctor import diagnose

    for title, rows in diagnose(args.data_dir).items():
        print(title)
        for name, text in rows:
            print(f"  {name:<22}{text}")
    return 0
