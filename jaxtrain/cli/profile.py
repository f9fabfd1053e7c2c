"""Trace some training steps: which operations take the time, the gap between steps, FLOP/s and bandwidth.

The step is warmed up, timed, and then traced by jax's profiler. The trace is written to a directory, for TensorBoard
and Perfetto. Nothing is evaluated or saved. MFU (model FLOPs utilization) is the FLOP/s of the step's matrix
multiplications and convolutions, relative to those measured for one large matrix multiplication on the same device.
"""

import argparse

from jaxtrain.cli.arguments import add_config, add_data_dir

NAME = "profile"
HELP = "trace a few training steps: top operations, dispatch gap, MFU and bandwidth"
EXAMPLES = """\
  jaxtrain profile digits_lenet5
  jaxtrain profile cifar10_resnet20 data.batch_size=256 --steps 20 --out trace --top 30
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    add_config(parser)
    parser.add_argument(
        "--steps", type=int, default=10, metavar="N", help="steps to trace, one per dispatch (default: 10)"
    )
    parser.add_argument("--out", metavar="DIR", help="directory of the trace (default: profiles/NAME-DIGEST)")
    parser.add_argument("--top", type=int, default=15, metavar="N", help="operations in the table (default: 15)")
    add_data_dir(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from pathlib import Path

    from jaxtrain.config import config_name, digest, load_config
    from jaxtrain.errors import ConfigError

    config = load_config(args.config, args.overrides)
    for name in ("steps", "top"):
        if getattr(args, name) < 1:
            raise ConfigError(f"--{name} {getattr(args, name)}: it must be >= 1")

    from jaxtrain.analysis.profile import profile
    from jaxtrain.analysis.profile_table import operation_table, profile_lines
    from jaxtrain.reporting.tables import wide_console

    out = Path(args.out) if args.out else Path("profiles") / f"{config_name(args.config)}-{digest(config)}"
    found = profile(config, out, args.steps, args.data_dir)
    console = wide_console()
    console.print(operation_table(found, args.top))
    for line in profile_lines(found):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    return 0
