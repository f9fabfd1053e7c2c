"""Draw a schedule over a run, or the activations of a deep network under several initializations."""

import argparse

from jaxtrain.cli import plot_activations, plot_schedule

NAME = "plot"
HELP = "draw a schedule, or the activations of a deep network by initialization"
EXAMPLES = plot_schedule.EXAMPLES + plot_activations.EXAMPLES
_PLOTS = (plot_schedule, plot_activations)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    commands = parser.add_subparsers(title="what to draw", metavar="WHAT", required=True)
    for module in _PLOTS:
        sub = commands.add_parser(
            module.NAME,
            help=module.HELP,
            description=module.__doc__,
            epilog=f"examples:\n{module.EXAMPLES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(sub)
        sub.set_defaults(draw=module.run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    code: int = args.draw(args)
    return code
