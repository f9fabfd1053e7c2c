"""Compare models: parameters, multiply-adds, time of a batch, memory of a training step, published errors.

Times are medians after a warm-up, the models taking turns. A training step is forward, backward, and an update by SGD
with momentum. Its memory is what the compiler says: parameters, momentum, the batch and what is between.
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
    """Declares the command's arguments."""
    parser.add_argument("models", metavar="MODEL", nargs="+", help="rows of `jaxtrain list models`, or calls")
    parser.add_argument("--input", metavar="HxWxC", help="an image (default: each model's published one)")
    parser.add_argument("--classes", type=int, metavar="N", help="of the data (default: each model's published ones)")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="of what is measured (default: 8)")
    parser.add_argument("--no-time", action="store_true", help="count only; nothing is compiled or measured")
    parser.add_argument(
        "--error", metavar="MODEL=PERCENT", action="append", default=[], help="an error of your own, in its stead"
    )
    parser.add_argument("--output", metavar="FILE.png", help="also draw a chart (needs the extra `docs`)")
    parser.add_argument("--json", action="store_true", help="print an array")


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from jaxtrain.errors import ConfigError

    if args.batch_size < 1:
        raise ConfigError(f"{args.batch_size} is out of range; it must be >= 1", "--batch-size")
    given = _given(args.error, args.models)
    candidates = [_candidate(call, args, given) for call in dict.fromkeys(args.models)]
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
        _write(rows, args.output)
    return 0


def _candidate(call: str, args: argparse.Namespace, given: dict[str, float]) -> "Candidate":
    from jaxtrain.cli.models import images_of, model_spec

    spec = model_spec(call, [])
    shape, classes = images_of(spec, args.input, args.classes)

    from jaxtrain.analysis.compare import Candidate, published

    errors: tuple[Any, ...] = published(spec)
    if call in given:
        own = {"data": "errors as given", "metric": "top-1", "error": given[call], "protocol": "", "source": "--error"}
        errors = (own, *errors)
    model = spec.build(num_classes=classes)
    return Candidate(name=call, model=model, shape=shape, num_classes=classes, published=errors)


def _given(options: Sequence[str], models: Sequence[str]) -> dict[str, float]:
    """Errors in percent by model."""
    from jaxtrain.errors import ConfigError, did_you_mean

    found = {}
    for option in options:
        name, sign, text = option.rpartition("=")
        try:
            error = float(text)
        except ValueError:
            error = -1.0
        if not sign or not 0 <= error <= 100:
            raise ConfigError(f"{option!r} is no error; write MODEL=PERCENT, such as lenet5=0.87", "--error")
        if name not in models:
            raise ConfigError(f"{name!r} is not compared{did_you_mean(name, models)}", "--error")
        found[name] = error
    return found


def _check_chart(candidates: "Sequence[Candidate]", path: str) -> None:
    """Refuses what cannot be drawn before anything is measured in vain."""
    import os
    from importlib.util import find_spec

    from jaxtrain.analysis.bubble_chart import charted
    from jaxtrain.errors import ConfigError

    if find_spec("matplotlib") is None:
        raise ConfigError("a picture takes matplotlib: install jaxtrain[docs], or leave --output out")
    directory = os.path.dirname(path) or "."
    if not os.access(directory, os.W_OK) or os.path.isdir(path):
        raise ConfigError(f"cannot write {path}: there is no such directory, or it is not writable", "--output")
    if not charted(candidates)[0]:
        raise ConfigError("none of the models has a published top-1 error to draw; give some with --error", "--output")


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


def _write(rows: Sequence["Comparison"], path: str) -> None:
    import sys

    from jaxtrain.analysis.bubble_chart import charted, draw
    from jaxtrain.errors import ConfigError

    try:
        draw(rows, path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot write {path}: {error}", "--output") from error
    _, left_out = charted([r.candidate for r in rows])
    if left_out:
        print(f"not in the chart, for want of a published error: {', '.join(left_out)}", file=sys.stderr)
    print(path, file=sys.stderr)
