"""The `jaxtrain` command: it runs the subcommand, and turns user errors into a message and an exit code."""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from jaxtrain import __version__
from jaxtrain.cli import check, compare, diff, doctor, evaluate, listing, plot, profile, show, summary, train, weights
from jaxtrain.errors import ConfigError, JaxtrainError
from jaxtrain.xla_cpu.keep_memory import keep_freed_memory

COMMANDS = (train, check, show, evaluate, listing, summary, compare, weights, plot, profile, diff, doctor)

_EPILOG = """\
examples:
  jaxtrain train digits_lenet5                     train a shipped recipe; run again to continue
  jaxtrain train digits_lenet5 optimizer.momentum=0.95 train_for="5 epochs"
  jaxtrain check my_config.py                      check a config in seconds, without compiling
  jaxtrain check my_config.py --compile            compile the training step and print its memory
  jaxtrain eval runs/digits_lenet5-1a2b3c4d        evaluate a run's best checkpoint
  jaxtrain list configs                            list the shipped recipes
  jaxtrain summary resnet50                        print a model layer by layer

exit codes: 0 done, 1 a part of the work could not be done, 2 bad usage, config or data, 3 diverged,
4 another process of the run died, 130 or 143 interrupted after saving a checkpoint
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    main = argparse.ArgumentParser(
        prog="jaxtrain",
        description="Config-driven training of image classifiers in JAX, with exact resume.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    main.add_argument("--version", action="version", version=f"jaxtrain {__version__}")
    commands = main.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in COMMANDS:
        sub = commands.add_parser(
            module.NAME,
            help=module.HELP,
            description=module.__doc__,
            epilog=f"examples:\n{module.EXAMPLES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(sub)
        sub.set_defaults(command=module.run)
    return main


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse `arguments`; overrides may stand anywhere among the options."""
    main = parser()
    namespace, rest = main.parse_known_args(arguments)
    overrides = getattr(namespace, "overrides", None)
    unknown = [r for r in rest if r.startswith("-") or overrides is None]
    if unknown:
        main.error(f"unknown arguments: {' '.join(unknown)}")
    if overrides is not None:
        namespace.overrides = [*overrides, *rest]
    return namespace


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (None: those of the process) and return the exit code."""
    namespace = _parse(arguments)
    keep_freed_memory()  # before the command imports jax
    try:
        code: int = namespace.command(namespace)
        return code
    except JaxtrainError as error:
        kind = "config error" if isinstance(error, ConfigError) else "error"
        print(f"jaxtrain: {kind}: {error}", file=sys.stderr)
        return error.exit_code
    except MemoryError as error:
        print(f"jaxtrain: error: out of memory: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("jaxtrain: interrupted before training began", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of the pipe, such as head, has closed it
        sys.stderr.close()
        return 0


def run() -> NoReturn:
    """Run the command line of the process and exit; the entry point of the console script."""
    sys.exit(main())
