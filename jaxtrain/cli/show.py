"""Draw a batch before and after augmentation, as the model sees it, and the balance of the classes in the splits.

The batch of a training step is the one that training uses: same code, random keys and order of examples, for any
number of devices. Steps are counted from 0. The validation and test splits are not shuffled: the examples shown are
evenly spaced in them. The inverse of the preprocessing turns the model's inputs back into pixels.
"""

import argparse
import os
from pathlib import Path

from jaxtrain.cli.arguments import add_config, add_data_dir

NAME = "show"
HELP = "draw a batch as the model sees it, and the balance of the classes"
EXAMPLES = """\
  jaxtrain show digits_lenet5
  jaxtrain show cifar10_resnet20 --data-dir ~/data --step 100 --examples 48 --output batch.png
  jaxtrain show fashion_mnist_resnet data.augment="randaugment" --columns 3
  jaxtrain show digits_lenet5 --split validation
"""
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    add_config(parser)
    parser.add_argument(
        "--output", metavar="FILE.png", help="image to write, replaced if it exists (default: show-NAME.png)"
    )
    parser.add_argument("--split", default="train", help="train, validation or test (default: train)")
    parser.add_argument("--step", type=int, default=0, metavar="N", help="training step, from 0 (default: 0)")
    parser.add_argument(
        "--examples", type=int, metavar="N", help="number of examples to show (default: 24, or all if there are fewer)"
    )
    parser.add_argument(
        "--columns", type=int, metavar="N", help="pairs side by side (default: as many as fit in 1000 pixels)"
    )
    add_data_dir(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from jaxtrain.config import load_config
    from jaxtrain.errors import ConfigError

    config = load_config(args.config, args.overrides)
    for option in ("examples", "columns"):
        number = getattr(args, option)
        if number is not None and number < 1:
            raise ConfigError(f"{number} is out of range; it must be >= 1", f"--{option}")
    path = _output_path(args)

    from rich.console import Console

    from jaxtrain.analysis.data_preview import preview_data
    from jaxtrain.reporting.class_chart import class_chart, class_table
    from jaxtrain.reporting.contact_sheet import contact_sheet, stack_vertically
    from jaxtrain.run.compilation_cache import enable_compilation_cache
    from jaxtrain.run.evaluate_run import single_device_config
    from jaxtrain.training.plan import make_plan

    enable_compilation_cache()
    found = preview_data(make_plan(single_device_config(config), args.data_dir), args.split, args.step, args.examples)
    listed = found.balance.listed
    balance = listed.names, listed.counts, found.balance.totals, found.balance.title
    try:
        sheet = contact_sheet(found.before, found.after, found.captions, found.title, args.columns)
    except ValueError as error:
        raise ConfigError(f"{error}; show fewer examples", "--examples") from error
    try:
        stack_vertically(sheet, class_chart(*balance)).save(path)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot write {str(path)!r}: {getattr(error, 'strerror', None) or error}", "--output"
        ) from error
    console = Console()
    for line in found.lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    console.print(class_table(*balance))
    for warning in found.warnings:
        console.print(f"warning: {warning}", style="yellow", highlight=False, soft_wrap=True, markup=False)
    console.print(f"{path}: {found.title[0]}", highlight=False, soft_wrap=True, markup=False)
    return 0


def _output_path(args: argparse.Namespace) -> Path:
    """Return the file to write; raise `ConfigError` where it cannot be written, before any work is done."""
    from jaxtrain.config import config_name
    from jaxtrain.errors import ConfigError

    # os.path.isdir is False for a name that is too long for the system, where Path.is_dir raises an error
    path = Path(args.output or f"show-{config_name(args.config)}.png")
    if path.suffix.lower() not in _SUFFIXES:
        raise ConfigError(
            f"{str(path)!r} is not the name of an image file; it must end in {', '.join(_SUFFIXES)}", "--output"
        )
    if not os.path.isdir(path.parent):
        raise ConfigError(f"there is no directory {str(path.parent)!r} to write to; create it first", "--output")
    if os.path.isdir(path):
        raise ConfigError(f"{str(path)!r} is a directory; name a file", "--output")
    return path
