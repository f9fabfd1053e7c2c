"""Draw a schedule over a run: in the terminal, as a PNG, or as JSON."""

import argparse
from typing import Any

NAME = "schedule"
HELP = "values of a schedule, in the terminal or as a PNG"
EXAMPLES = """\
  jaxtrain plot schedule cosine peak=0.1 warmup="5 epochs"
  jaxtrain plot schedule "sgdr(0.1, period='10 epochs', period_factor=2)" --for "70 epochs" --output sgdr.png
  jaxtrain plot schedule sutskever_momentum --for "3000 steps" --json
"""
_MAX_POINTS = 400


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument(
        "name", metavar="NAME", help="a name in `jaxtrain list schedules`, or a call such as cosine(0.1)"
    )
    parser.add_argument("overrides", metavar="OPTION=VALUE", nargs="*", help="options of the schedule")
    parser.add_argument(
        "--for", dest="length", default="30 epochs", metavar="TIME", help="length of the run (default: 30 epochs)"
    )
    parser.add_argument("--examples", type=int, default=50_000, metavar="N", help="examples per epoch (default: 50000)")
    parser.add_argument("--batch-size", type=int, default=128, metavar="N", help="batch size of the run (default: 128)")
    parser.add_argument(
        "--output", metavar="FILE.png", help="write an image instead of a chart (needs the extra `docs`)"
    )
    parser.add_argument("--json", action="store_true", help="print the steps and values as JSON")


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    import json

    steps, values, epochs, title = _sample(args)
    if args.json:
        print(json.dumps([{"step": s, "value": v} for s, v in zip(steps, values, strict=True)]))
    elif args.output:
        from jaxtrain.reporting.figures import curve

        curve(args.output, epochs, values, title=title, x_label="epoch", y_label="value")
        print(args.output)
    else:
        from jaxtrain.reporting.terminal_chart import chart

        print(title)
        print(chart(epochs, values, x_label="epochs"))
    return 0


def _sample(args: argparse.Namespace) -> tuple[list[int], list[float], list[float], str]:
    """Return the steps to draw, the schedule's values and the epochs there, and the schedule as text."""
    from jaxtrain.config import Duration, RunLength
    from jaxtrain.errors import ConfigError

    spec = _parse_spec(args.name, args.overrides)
    for option, number in (("--examples", args.examples), ("--batch-size", args.batch_size)):
        if number < 1:
            raise ConfigError(f"{number} is out of range; it must be >= 1", option)
    clock = RunLength(args.examples, args.batch_size)
    try:
        total = Duration.parse(args.length).to_step_count(clock, "--for")
    except ConfigError as error:
        raise ConfigError(error.message, "--for") from None
    if total < 1:
        raise ConfigError(f"'{args.length}' is shorter than one step; it must be at least one step", "--for")
    clock = RunLength(args.examples, args.batch_size, total)

    import jax
    import numpy as np

    schedule = spec.build(clock=clock, total=total, examples=args.examples, batch_size=args.batch_size)
    steps = np.unique(np.linspace(0, total, min(_MAX_POINTS, total + 1)).round().astype(np.int32))
    values = np.asarray(jax.jit(jax.vmap(schedule))(steps), float)
    return steps.tolist(), values.tolist(), [clock.epoch(int(s)) for s in steps], str(spec)


def _parse_spec(name: str, options: list[str]) -> Any:
    """Return the spec of the schedule; refuse one that depends on a run's metrics."""
    from jaxtrain.cli.components import parse_component
    from jaxtrain.errors import ConfigError
    from jaxtrain.registry import get_registry

    spec = parse_component("schedule", name, options, "peak=0.1")
    if needs := get_registry("schedule")[spec.name].requires:
        raise ConfigError(
            f"{spec.name} depends on the {needs} metric of a run and cannot be drawn without one; choose another"
        )
    return spec
