"""Work a run out by shapes alone and print it: the resolved config, every parameter, FLOPs a step and memory."""

import argparse

from jaxtrain.cli.arguments import add_config, add_data_dir

NAME = "check"
HELP = "resolve and check a config in seconds, without compiling"
EXAMPLES = """\
  jaxtrain check digits_lenet5
  jaxtrain check my_config.py model=mlp data.batch_size=256
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add_config(parser)
    add_data_dir(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from jaxtrain.config import dumps, load_config

    config = load_config(args.config, args.overrides)
    from rich.console import Console

    from jaxtrain.analysis.check import examine
    from jaxtrain.reporting.tables import dtype_table, parameter_table
    from jaxtrain.training.plan import make_plan

    report = examine(make_plan(config, args.data_dir))
    console = Console()
    console.print(dumps(config), end="", highlight=False, markup=False)
    console.print(parameter_table(report.parameters))
    console.print(dtype_table(report.dtypes))
    for line in report.lines():
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    return 0
