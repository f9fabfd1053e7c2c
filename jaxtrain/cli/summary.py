"""Print a model layer by layer: outputs, parameters, multiply-adds, memory and receptive fields.

MACs are the multiply-adds of convolutions, dense layers and attention, for one image. Elements and memory are those of
a layer's output. A field of 11/4 is a receptive field of 11 pixels a side, with 4 pixels between neighbors; "all" is
the whole image. Weights are parameters with two axes or more, such as kernels; biases are the others, such as biases
and the scales of normalizations. Nothing is computed or compiled.
"""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtrain.analysis.layer_rows import LayerRow
    from jaxtrain.analysis.summary import Summary

NAME = "summary"
HELP = "print a model layer by layer: shapes, parameters, multiply-adds, memory, receptive fields"
EXAMPLES = """\
  jaxtrain summary vgg16
  jaxtrain summary resnet depth=101 --depth 1
  jaxtrain summary "cifar_resnet(depth=20)" --input 64x64x3 --classes 100 --all
  jaxtrain summary googlenet --train --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("model", metavar="MODEL", help="a name in `jaxtrain list models`, or a call: resnet(depth=34)")
    parser.add_argument("overrides", metavar="OPTION=VALUE", nargs="*", help="options of the model")
    parser.add_argument("--input", metavar="HxWxC", help="shape of an image (default: the published one)")
    parser.add_argument("--classes", type=int, metavar="N", help="number of classes (default: the published one)")
    parser.add_argument(
        "--train", action="store_true", help="show the model in training mode, with dropout and auxiliary heads"
    )
    parser.add_argument("--all", action="store_true", help="show activations and normalizations in rows of their own")
    parser.add_argument("--depth", type=int, metavar="N", help="show each module at this depth as one row")
    parser.add_argument("--json", action="store_true", help="print a JSON object with every layer")


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from jaxtrain.cli.models import image_shape_and_classes, parse_model
    from jaxtrain.errors import ConfigError

    spec = parse_model(args.model, args.overrides)
    shape, classes = image_shape_and_classes(spec, args.input, args.classes)
    if args.depth is not None and (args.depth < 1 or args.all):
        advice = "it cannot be combined with --all; omit one of them" if args.all else "it must be >= 1"
        raise ConfigError(f"--depth {args.depth}: {advice}")

    from jaxtrain.analysis.summary import summary

    model = spec.build(num_classes=classes)
    try:
        found = summary(model, shape, train=args.train)
    except ValueError as error:
        raise ConfigError(str(error), f"{spec.name} on {'x'.join(map(str, shape))}") from error
    layers = found.layers if args.all else found.fold_minor(args.depth)
    if args.json:
        _print_json(spec.name, shape, classes, found, layers)
        return 0

    from jaxtrain.analysis.layer_table import layer_table, summary_lines
    from jaxtrain.reporting.tables import wide_console

    console = wide_console()
    console.print(layer_table(layers, f"{spec.name}, {classes:,} classes"))
    for line in summary_lines(found):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    return 0


def _print_json(
    name: str, shape: Sequence[int], classes: int, summary: "Summary", layers: Sequence["LayerRow"]
) -> None:
    import dataclasses
    import json

    record = {
        "model": name,
        "input": shape,
        "num_classes": classes,
        "parameters": summary.parameters,
        "parameter_bytes": summary.parameter_bytes,
        "statistics": summary.statistics,
        "multiply_adds": summary.multiply_adds,
        "activations": summary.activations,
        "unused": summary.unused,
        "layers": [dataclasses.asdict(layer) for layer in layers],
    }
    print(json.dumps(record, indent=2))
