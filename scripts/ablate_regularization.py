#!/usr/bin/env python3
"""What regularizers do to small nets that are trained on 5,000 images of CIFAR-10, a tenth of each class, at 16x16.

Every row is trained from several seeds. Prints the table, and writes the numbers and the curves that
docs/regularization.md shows. What is there already is not trained again.

python scripts/ablate_regularization.py --data-dir DIR --work DIR [--rows mixup] [--docs docs]  (needs the docs extra)
"""

import argparse
import dataclasses
import statistics
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from run_grid import Grid, add_arguments, finals, make_rows, write_docs

from jaxtrain.config import Config, DataConfig, LoggingConfig, OptimizerSpec, ScheduleSpec
from jaxtrain.config.duration import Duration
from jaxtrain.config.spec import DatasetSpec, ModelSpec
from jaxtrain.data.sources.cifar import cifar10

TRAIN, VALIDATION, CLASSES = 5_000, 2_000, 10
FILE = "cifar10_small.npz"
CROPS = "data.augment=pad_crop(2)|flip_lr"
ROWS: dict[str, tuple[str, ...]] = {
    "none": (),
    "flips_crops": (CROPS,),
    "cutout": (f"{CROPS}|cutout(8)",),
    "mixup": (CROPS, "data.mix=mixup(1.0)"),
    "dropout": ("model.dropout_rate=0.25",),
    "stochastic_depth": ("model=preact_resnet(depth=8, last_survival=0.5)",),
    "fractional_pooling": ("model=fractional_cnn(width=16, blocks=4)", "data.pad=1"),
    "mlp_none": ("model=mlp(widths=[128])",),
    "mlp_dropout": ("model=mlp(widths=[128], dropout_rate=0.5)",),
    "mlp_dropconnect": ("model=mlp(widths=[128], dropconnect_rate=0.5, dropconnect_test=moments)",),
}


def base() -> Config:
    """A pre-activation ResNet of 8 layers, 77,850 parameters, without any regularizer but weight decay."""
    return Config(
        model=ModelSpec("wide_resnet", depth=10, width=1),
        data=DataConfig(
            dataset=DatasetSpec("npz", file=FILE),
            batch_size=128,
            resize=(16, 16),
            validation=Duration(float(VALIDATION), "examples"),
        ),
        optimizer=OptimizerSpec(
            "sgd",
            learning_rate=ScheduleSpec("cosine", 0.1, warmup="5%"),
            momentum=0.9,
            nesterov=True,
            weight_decay=[("kernel", 5e-4), (".*", 0)],
        ),
        train_for=Duration(20.0, "epochs"),
        logging=LoggingConfig(every=Duration(1.0, "epochs"), tensorboard=False),
    )


@dataclasses.dataclass(frozen=True)
class Row:
    """What one regularizer came to.

    Attributes:
      name: of the row.
      settings: by which it differs from `base`.
      train: accuracy on the training split at the end, without augmentation, a value a seed.
      test: accuracy on the test split, a value a seed.
      validation: accuracy after each epoch, the mean over seeds.
      seconds: of training, compiling included, the mean over seeds.
    """

    name: str
    settings: tuple[str, ...]
    train: list[float]
    test: list[float]
    validation: list[float]
    seconds: float


def prepare(data_dir: Path, work: Path) -> None:
    """Writes the images: the first of each class for training and validation, and all of the test split."""
    source = cifar10(directory=data_dir)
    train, test = source.load("train"), source.load("test")
    each = (TRAIN + VALIDATION) // CLASSES
    chosen = np.sort(np.concatenate([np.flatnonzero(train.labels == k)[:each] for k in range(CLASSES)]))
    np.savez(
        work / FILE,
        train_images=train.images[chosen],
        train_labels=train.labels[chosen],
        test_images=test.images,
        test_labels=test.labels,
    )


def train(name: str, grid: Grid, seeds: int) -> Row:
    """Train a row from each seed."""
    outcomes = grid.run_seeds(lambda seed: f"{name}-{seed}", base(), ROWS[name], seeds)
    curves = [outcome.curve("validation", "accuracy") for outcome in outcomes]
    return Row(
        name=name,
        settings=ROWS[name],
        train=finals(outcomes, "train", "accuracy"),
        test=finals(outcomes, "test", "accuracy"),
        validation=[statistics.mean(values) for values in zip(*curves, strict=True)],
        seconds=statistics.mean(outcome.seconds for outcome in outcomes),
    )


def table(rows: Iterable[Row]) -> str:
    """The table in Markdown."""
    lines = [
        "| row | settings | training accuracy, % | test accuracy, % | s a run |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        settings = " ".join(f"`{setting}`" for setting in row.settings).replace("|", "\\|")
        lines.append(f"| {row.name} | {settings} | {_percent(row.train)} | {_percent(row.test)} | {row.seconds:.0f} |")
    return "\n".join(lines) + "\n"


def _percent(values: list[float]) -> str:
    each = ", ".join(f"{100 * value:.1f}" for value in values)
    return f"{100 * statistics.mean(values):.1f} ({each})"


def draw(rows: list[Row], target: Path) -> None:
    """Validation accuracy of every row against the epoch: the convolutional nets, and the perceptrons."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    for row in rows:
        axis = axes[int(row.name.startswith("mlp"))]
        axis.plot(range(1, len(row.validation) + 1), row.validation, label=row.name)
    for axis in axes:
        axis.set(xlabel="epoch", ylabel="validation accuracy, mean over seeds")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(target, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="holds cifar10/")
    add_arguments(parser, "ablation", "rows")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if not (args.work / FILE).exists():
        prepare(args.data_dir, args.work)
    grid = Grid(args.work, args.work)
    rows = make_rows(args.names.split(",") if args.names else ROWS, lambda name: train(name, grid, args.seeds), table)
    if args.docs:
        write_docs(args.docs, "ablation", rows, draw)


if __name__ == "__main__":
    main()
