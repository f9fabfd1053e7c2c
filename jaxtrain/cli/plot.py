"""Draw a schedule over a run, or what initializations make of a deep net's activations."""

import argparse

from jaxtrain.cli import plot_activations, plot_schedule

NAME = "plot"
HELP = "draw a schedule, or the activations of a deep net by initialization"
EXAMPLES = plot_schedule.EXAMPLES + plot_activations.EXAMPLES
_WHAT = (plot_schedule, plot_activations)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    commands = parser.add_subparsers(title="what to draw", metavar="WHAT", required=True)
    for module in _WHAT:
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
    """Runs the command."""
    code: int = args.draw(args)
    return code
