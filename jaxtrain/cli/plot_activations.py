"""Show the activations of a deep network, by initialization: as a table, as JSON, or as histograms in a PNG."""

import argparse
from typing import Any

NAME = "activations"
HELP = "mean, standard deviation and histogram of each layer of a deep network, by initialization"
EXAMPLES = """\
  jaxtrain plot activations
  jaxtrain plot activations --activation relu --init xavier --init he --init "orthogonal(1.414)" --output relu.png
  jaxtrain plot activations --init "normal(0.03)" --init lsuv --layers 20 --width 512 --json
"""
_INITS = ("normal(0.01)", "normal(0.05)", "xavier", "he")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument(
        "--activation", default="tanh", metavar="NAME", help="activation after each layer (default: tanh)"
    )
    parser.add_argument(
        "--init",
        action="append",
        metavar="NAME",
        help=f"an initialization, or NAME(NUMBER); repeat it for more networks (default: {', '.join(_INITS)})",
    )
    parser.add_argument("--layers", type=int, default=6, metavar="N", help="number of layers (default: 6)")
    parser.add_argument("--width", type=int, default=4096, metavar="N", help="units per layer (default: 4096)")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="number of examples (default: 16)")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the data and the kernels (default: 0)"
    )
    parser.add_argument(
        "--output", metavar="FILE.png", help="write histograms instead of a table (needs the extra `docs`)"
    )
    parser.add_argument("--json", action="store_true", help="print the statistics and histograms as JSON")


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    import dataclasses
    import json

    outcomes = _run_experiment(args)
    title = f"{args.activation}, {args.layers} layers of {args.width} units, a batch of {args.batch_size}"
    if args.json:
        print(json.dumps([dataclasses.asdict(outcome) for outcome in outcomes]))
    elif args.output:
        from jaxtrain.reporting.figures import histograms

        cells = [
            (o.init, [(f"{s.layer}: {s.mean:.2g} ± {s.std:.2g}", s.low, s.high, s.counts) for s in o.layers])
            for o in outcomes
        ]
        histograms(args.output, cells, title)
        print(args.output)
    else:
        from rich.console import Console

        from jaxtrain.reporting.tables import activation_table

        print(title)
        for outcome in outcomes:
            rows = [(s.layer, s.mean, s.std, s.saturated, s.dead) for s in outcome.layers]
            Console().print(activation_table(outcome.init, rows))
    return 0


def _run_experiment(args: argparse.Namespace) -> Any:
    import typing

    from jaxtrain.annotations import Seed
    from jaxtrain.config.coerce import coerce
    from jaxtrain.errors import ConfigError, did_you_mean
    from jaxtrain.nn.activations import Activation

    for option in ("layers", "width", "batch_size"):
        number = getattr(args, option)
        if number < 1:
            raise ConfigError(f"{number} is out of range; it must be >= 1", f"--{option.replace('_', '-')}")
    coerce(args.seed, Seed, "--seed")
    names = typing.get_args(Activation)
    if args.activation not in names:
        raise ConfigError(
            f"unknown activation {args.activation!r}{did_you_mean(args.activation, names)}", "--activation"
        )

    from jaxtrain.analysis.activation_experiment import activation_experiment

    return activation_experiment(
        args.init or _INITS,
        activation=args.activation,
        layers=args.layers,
        width=args.width,
        batch_size=args.batch_size,
        seed=args.seed,
    )
