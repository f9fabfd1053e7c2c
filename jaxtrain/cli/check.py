"""Check a run before it starts and print it: the resolved config, every parameter, FLOPs of a step and memory.

The memory of state and data is computed from shapes alone, in seconds. --compile also compiles the training step and
prints the memory that XLA needs for it. The compiled program stays in the compilation cache, where `train` finds it. No
run directory is written.
"""

import argparse
from typing import TYPE_CHECKING

from jaxtrain.cli.arguments import add_config, add_data_dir

if TYPE_CHECKING:
    from rich.console import Console

    from jaxtrain.config import Config
    from jaxtrain.training.plan import Plan

NAME = "check"
HELP = "resolve and check a config in seconds; with --compile, print the memory of the compiled step"
EXAMPLES = """\
  jaxtrain check digits_lenet5
  jaxtrain check my_config.py model=mlp data.batch_size=256
  jaxtrain check my_config.py --compile
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    add_config(parser)
    parser.add_argument(
        "--compile", action="store_true", help="compile the training step and print XLA's analysis of its memory"
    )
    add_data_dir(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; return 1 where --compile is given but the step cannot be compiled without a run, else 0."""
    from jaxtrain.config import load_config

    config = load_config(args.config, args.overrides)
    from rich.console import Console

    from jaxtrain.run.compilation_cache import enable_compilation_cache
    from jaxtrain.training.plan import make_plan

    if args.compile:
        enable_compilation_cache()
    plan = make_plan(config, args.data_dir)
    console = Console()
    _print_report(console, config, plan)
    return _print_compiled(console, plan) if args.compile else 0


def _print_report(console: "Console", config: "Config", plan: "Plan") -> None:
    from jaxtrain.analysis.check import make_report
    from jaxtrain.config import dumps
    from jaxtrain.reporting.tables import dtype_table, memory_table, parameter_table

    report = make_report(plan)
    console.print(dumps(config), end="", highlight=False, markup=False)
    console.print(parameter_table(report.parameters))
    console.print(dtype_table(report.dtypes))
    console.print(memory_table(report.memory_rows()))
    for line in report.lines():
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _print_compiled(console: "Console", plan: "Plan") -> int:
    from jaxtrain.analysis.compiled_step import compile_initial_state, compile_step, why_unavailable
    from jaxtrain.reporting.tables import step_memory_table

    reason = why_unavailable(plan)
    if reason:
        console.print(f"compiled step: {reason}", highlight=False, soft_wrap=True, markup=False)
        return 1
    compile_initial_state(plan)
    step = compile_step(plan)
    if rows := step.memory_rows():
        console.print(step_memory_table(rows))
    for line in step.lines():
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    return 0
