"""List the arrays of a weights file, or report how it matches a model; nothing is trained or written."""

import argparse
from typing import Any

NAME = "weights"
HELP = "list the arrays of a .safetensors or .npz file, or report how it matches a model"
EXAMPLES = """\
  jaxtrain weights resnet50.safetensors
  jaxtrain weights resnet50.safetensors --model resnet50
  jaxtrain weights resnet50.safetensors --model resnet50 --classes 10 --input 32x32x1 --adapt
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("file", metavar="FILE", help="a .safetensors or .npz file")
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help='a name in `jaxtrain list models`, such as "resnet50", or a call: "vit(depth=6)"',
    )
    parser.add_argument("--input", metavar="HxWxC", help="shape of an image (default: the published one)")
    parser.add_argument("--classes", type=int, metavar="N", help="number of classes (default: the published one)")
    parser.add_argument(
        "--adapt",
        action="store_true",
        help="make a new head, and adapt first layers and position embeddings where they do not fit",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from jaxtrain.models.weights import identify_networks, load_weights, read_arrays

    if args.model is None:
        arrays = read_arrays(args.file)
        seems = identify_networks(arrays)
        rows = [(name, f"{x.dtype.name} {'x'.join(map(str, x.shape)) or 'scalar'}") for name, x in arrays.items()]
        last = [f"{len(arrays)} arrays; it seems to be {' or '.join(seems)}" if seems else f"{len(arrays)} arrays"]
    else:
        model, image = _model(args)
        adapt: dict[str, Any] = {"first_conv": "adapt", "first_dense": "pooled", "positions": "torchvision"}
        options = {**adapt, "head": "zeros"} if args.adapt else {}
        _, report = load_weights(args.file, model, image, **options)
        rows, last = list(report.loaded.items()), [str(report)]
    width = max((len(name) for name, _ in rows), default=0)
    print("\n".join([*(f"{name:<{width}}  {text}" for name, text in rows), *last]))
    return 0


def _model(args: argparse.Namespace) -> tuple[Any, tuple[int, int, int]]:
    from jaxtrain.cli.models import image_shape_and_classes, parse_model

    spec = parse_model(args.model, [])
    image, classes = image_shape_and_classes(spec, args.input, args.classes)
    return spec.build(num_classes=classes), image
