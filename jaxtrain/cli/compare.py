"""Compare models: parameters, multiply-adds, time per batch, memory of a training step, published errors.

Times are medians after a warm-up; the models run in turns. A training step is forward, backward, and an update by SGD
with momentum. The compiler states its memory: parameters, momentum, the batch and intermediate values.
"""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtrain.analysis.compare import Candidate, Comparison

NAME = "compare"
HELP = "compare models: parameters, operations, times, memory, published errors; as a table or a bubble chart"
EXAMPLES = """\
  jaxtrain compare resnet20 wrn_16_4 densenet_bc_100_12
  jaxtrain compare alexnet vgg16 googlenet resnet50 resnet152 --no-time --output models.png
  jaxtrain compare lenet5 "mlp(widths=[256])" --input 32x32x1 --batch-size 64 --json
  jaxtrain compare lenet5 mlp --error lenet5=0.87 --error mlp=1.6 --output mine.png
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument(
        "models", metavar="MODEL", nargs="+", help="names in `jaxtrain list models`, or calls: resnet(depth=34)"
    )
    parser.add_argument("--input", metavar="HxWxC", help="shape of an image (default: the published one of each model)")
    parser.add_argument(
        "--classes", type=int, metavar="N", help="number of classes (default: the published one of each model)"
    )
    parser.add_argument(
        "--batch-size", type=int, default=8, metavar="N", help="batch size of the measurements (default: 8)"
    )
    parser.add_argument("--no-time", action="store_true", help="only count; compile and measure nothing")
    parser.add_argument(
        "--error",
        metavar="MODEL=PERCENT",
        action="append",
        default=[],
        help="a top-1 error of your own, shown instead of the published one",
    )
    parser.add_argument("--output", metavar="FILE.png", help="also draw a bubble chart (needs the extra `docs`)")
    parser.add_argument("--json", action="store_true", help="print a JSON array")


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from jaxtrain.errors import ConfigError

    if args.batch_size < 1:
        raise ConfigError(f"{args.batch_size} is out of range; it must be >= 1", "--batch-size")
    own_errors = _parse_errors(args.error, args.models)
    candidates = [_candidate(call, args, own_errors) for call in dict.fromkeys(args.models)]
    if args.output:
        _check_chart(candidates, args.output)

    from jaxtrain.analysis.compare import compare
    from jaxtrain.run.compilation_cache import enable_compilation_cache

    enable_compilation_cache()
    try:
        rows = compare(candidates, batch_size=args.batch_size, timed=not args.no_time)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if args.json:
        _print_json(rows, args)
    else:
        _print_table(rows, args)
    if args.output:
        _write_chart(rows, args.output)
    return 0


def _candidate(call: str, args: argparse.Namespace, own_errors: dict[str, float]) -> "Candidate":
    from jaxtrain.cli.models import image_shape_and_classes, parse_model

    spec = parse_model(call, [])
    shape, classes = image_shape_and_classes(spec, args.input, args.classes)

    from jaxtrain.analysis.compare import Candidate, published_errors

    errors: tuple[Any, ...] = published_errors(spec)
    if call in own_errors:
        own = {
            "data": "errors as given",
            "metric": "top-1",
            "error": own_errors[call],
            "protocol": "",
            "source": "--error",
        }
        errors = (own, *errors)
    model = spec.build(num_classes=classes)
    return Candidate(name=call, model=model, shape=shape, num_classes=classes, published=errors)


def _parse_errors(options: Sequence[str], models: Sequence[str]) -> dict[str, float]:
    """Return the errors in percent that `options` such as `lenet5=0.87` give, by model."""
    from jaxtrain.errors import ConfigError, did_you_mean

    found = {}
    for option in options:
        name, sign, text = option.rpartition("=")
        try:
            error = float(text)
        except ValueError:
            error = -1.0
        if not sign or not 0 <= error <= 100:
            raise ConfigError(
                f"{option!r} is not an error in percent; write MODEL=PERCENT, such as lenet5=0.87", "--error"
            )
        if name not in models:
            raise ConfigError(f"{name!r} is not among the models to compare{did_you_mean(name, models)}", "--error")
        found[name] = error
    return found


def _check_chart(candidates: "Sequence[Candidate]", path: str) -> None:
    """Raise `ConfigError` where the chart cannot be drawn, before anything is measured."""
    import os
    from importlib.util import find_spec

    from jaxtrain.analysis.bubble_chart import chart_points
    from jaxtrain.errors import ConfigError

    if find_spec("matplotlib") is None:
        raise ConfigError("--output needs matplotlib: install jaxtrain[docs], or omit --output")
    directory = os.path.dirname(path) or "."
    if not os.access(directory, os.W_OK) or os.path.isdir(path):
        raise ConfigError(f"cannot write {path}: there is no such directory, or it is not writable", "--output")
    if not chart_points(candidates)[0]:
        raise ConfigError("none of the models has a published top-1 error to draw; add one with --error", "--output")


def _print_json(rows: Sequence["Comparison"], args: argparse.Namespace) -> None:
    import dataclasses
    import json

    records = []
    for r in rows:
        c = r.candidate
        record = {"model": c.name, "input": c.shape, "num_classes": c.num_classes, "parameters": r.parameters}
        record |= {"multiply_adds": r.multiply_adds, "published": c.published}
        if r.measured is not None:
            record |= {"batch_size": args.batch_size, **dataclasses.asdict(r.measured)}
        records.append(record)
    print(json.dumps(records, indent=2))


def _print_table(rows: Sequence["Comparison"], args: argparse.Namespace) -> None:
    from jaxtrain.analysis.comparison_table import comparison_table, note_lines
    from jaxtrain.reporting.tables import wide_console

    title = "models"
    if not args.no_time:
        import jax

        title = f"models; times of a batch of {args.batch_size} on {jax.devices()[0].device_kind}"
    console = wide_console()
    console.print(comparison_table(rows, title))
    for line in note_lines(rows):
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _write_chart(rows: Sequence["Comparison"], path: str) -> None:
    import sys

    from jaxtrain.analysis.bubble_chart import chart_points, draw_bubble_chart
    from jaxtrain.errors import ConfigError

    try:
        draw_bubble_chart(rows, path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot write {path}: {error}", "--output") from error
    _, left_out = chart_points([r.candidate for r in rows])
    if left_out:
        print(f"not in the chart, because they have no published top-1 error: {', '.join(left_out)}", file=sys.stderr)
    print(path, file=sys.stderr)
