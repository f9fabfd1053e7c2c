"""Train a config, or continue the run in its directory: the result is bitwise that of an uninterrupted run."""

import argparse

from jaxtrain.cli.arguments import add_config, add_data_dir, add_process_options

NAME = "train"
HELP = "train a config, or continue its run"
EXAMPLES = """\
  jaxtrain train digits_lenet5
  jaxtrain train digits_lenet5 seed=1 optimizer.momentum=0.95 --workdir runs/trial
  jaxtrain train mnist_lenet5 --data-dir ~/data train_for="2 epochs"
  jaxtrain train my_config.py optimizer="adamw(learning_rate=1e-3)"
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    add_config(parser)
    parser.add_argument("--workdir", metavar="DIR", help="run directory (default: runs/NAME-DIGEST)")
    add_data_dir(parser)
    add_process_options(parser)
    parser.add_argument("--quiet", action="store_true", help="show only the result and errors")


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from jaxtrain.config import load_config

    config = load_config(args.config, args.overrides)
    from absl import logging
    from rich.console import Console

    from jaxtrain.distributed import processes
    from jaxtrain.reporting.display import summary_line
    from jaxtrain.run.fit import default_workdir, fit

    processes.join(args.coordinator, args.processes, args.process_id)
    logging.set_verbosity(logging.FATAL)  # Orbax logs tracebacks of failures that we report ourselves
    result = fit(
        config,
        args.workdir or default_workdir(args.config, config),  # named after the recipe, which is not part of the config
        data_dir=args.data_dir,
        progress=not args.quiet,
    )
    if not processes.is_process_0():
        return 0
    console = Console()
    for name, metrics in (("final", result.final), (f"best (step {result.best_step})", result.best)):
        if metrics:
            console.print(summary_line(name, metrics), highlight=False, soft_wrap=True)
    console.print(
        f"{result.wall_seconds:.1f} s of training; parameters {result.params_sha256[:16]}; "
        f"see {result.workdir / 'result.json'}",
        highlight=False,
        soft_wrap=True,
    )
    return 0
