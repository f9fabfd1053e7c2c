"""Evaluate a checkpoint of a run directory on one of its splits."""

import argparse

from jaxtrain.cli.arguments import add_data_dir

NAME = "eval"
HELP = "evaluate a run's checkpoint on a split"
EXAMPLES = """\
  jaxtrain eval runs/digits_lenet5-1a2b3c4d
  jaxtrain eval runs/digits_lenet5-1a2b3c4d --split validation --checkpoint last
  jaxtrain eval runs/digits_lenet5-1a2b3c4d --checkpoint 300 --json
  jaxtrain eval runs/cifar10_resnet-1a2b3c4d --fold-batchnorm
  jaxtrain eval runs/cifar10_resnet-1a2b3c4d --tta "augmented(8, 'pad_crop(4)|flip_lr')"
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("workdir", metavar="WORKDIR", help="a run directory")
    parser.add_argument("--split", default="test", help="train, validation or test (default: test)")
    parser.add_argument(
        "--checkpoint", default="best", help="best, last or a step (default: best, or last where there is no best)"
    )
    parser.add_argument(
        "--fold-batchnorm", action="store_true", help="fold batch normalization into the layers before it"
    )
    parser.add_argument(
        "--tta",
        default="own",
        help="test-time augmentation: average the probabilities over views of each image, such as flips or "
        "'ten_crop(size=28)' (jaxtrain list tta); own: the setting of the run's config; none: the unchanged image "
        "(default: own)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_data_dir(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    import json
    from pathlib import Path

    from jaxtrain.run.evaluate_run import evaluate_run

    record = evaluate_run(
        Path(args.workdir), args.split, args.checkpoint, args.data_dir, fold_batchnorm=args.fold_batchnorm, tta=args.tta
    )
    if args.json:
        print(json.dumps(record))
    else:
        print(
            f"step {record['step']}  {record['split']} ({record['examples']} examples)  "
            f"loss {record['loss']:.4f}  accuracy {100 * record['accuracy']:.2f} %"
            + (f"  by {record['tta']}" if "tta" in record else "")
        )
    return 0
