#!/usr/bin/env python3
"""Compares the first-order rules on the variants of the recipe `fashion_comparison`, with the same budget for each.

For every rule five learning rates, the recipe's times 0.1, 0.3, 1, 3 and 10, are tried for `--search` epochs; the one
with the best validation accuracy is trained for the recipe's length from several seeds. Prints the table, and writes
the numbers and the curves that docs/optimizers.md shows. What is there already is not trained again.

python scripts/compare_optimizers.py --data-dir DIR --work DIR [--rules adam,lion] [--docs docs]  (needs the docs extra)
"""

import argparse
import dataclasses
import json
import math
import statistics
from pathlib import Path
from typing import Any

import jaxtrain
from jaxtrain.config import Config, LoggingConfig, OptimizerSpec, load_config, shipped
from jaxtrain.config.duration import Duration
from jaxtrain.config.spec import Spec

PREFIX = "fashion_comparison:"
FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)


@dataclasses.dataclass(frozen=True)
class Row:
    """What one rule came to.

    Attributes:
      rule: its name.
      learning_rate: the best of the search, the peak of the schedule.
      searched: validation accuracy by factor of the recipe's rate.
      test: accuracy on the test split, a value a seed.
      train_loss: mean loss on the training split after the last step, a value a seed.
      validation: accuracy on the validation split after each epoch, of the first seed.
      losses: training loss of each quarter of an epoch, of the first seed.
      seconds: of training, compiling included, of the first seed.
    """

    rule: str
    learning_rate: float
    searched: dict[str, float]
    test: list[float]
    train_loss: list[float]
    validation: list[float]
    losses: list[float]
    seconds: float


def scaled(optimizer: OptimizerSpec, factor: float) -> OptimizerSpec:
    """The optimizer, and the one inside it, with the learning rate multiplied."""
    changes: dict[str, Any] = {}
    rate = optimizer.options.get("learning_rate")
    if isinstance(rate, Spec):
        changes["learning_rate"] = rate.replace(peak=rate.options["peak"] * factor)
    elif rate is not None:
        changes["learning_rate"] = rate * factor
    inner = optimizer.options.get("inner")
    if isinstance(inner, OptimizerSpec):
        changes["inner"] = scaled(inner, factor)
    return optimizer.replace(**changes)


def peak(optimizer: OptimizerSpec) -> float:
    """The highest learning rate of the optimizer, or of the one inside it."""
    rate = optimizer.options.get("learning_rate")
    if rate is None:
        return peak(optimizer.options["inner"])
    return float(rate.options["peak"]) if isinstance(rate, Spec) else float(rate)


def train(config: Config, workdir: Path, data_dir: Path) -> dict[str, Any]:
    """The run's result, `records` with it; a run that diverges has no accuracy."""
    try:
        result = jaxtrain.fit(config, workdir, data_dir=data_dir)
    except jaxtrain.JaxtrainError as error:
        print(f"  {workdir.name}: {error}", flush=True)
        return {"final": None, "records": []}
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return {"final": result.final, "seconds": result.wall_seconds, "records": [json.loads(line) for line in lines]}


def compare(rule: str, args: argparse.Namespace) -> Row:
    """Searches, then trains."""
    recipe = load_config(PREFIX + rule)
    short = recipe.replace(train_for=Duration(args.search, "epochs"), logging=LoggingConfig(tensorboard=False))
    searched: dict[float, float] = {}
    for factor in FACTORS:
        config = short.replace(optimizer=scaled(recipe.optimizer, factor))
        final = train(config, args.work / f"{rule}-search-{factor:g}", args.data_dir)["final"]
        searched[factor] = final["validation"]["accuracy"] if final else 0.0
    best = max(searched, key=lambda f: (searched[f], -abs(math.log(f))))
    optimizer = scaled(recipe.optimizer, best)
    runs = [
        train(recipe.replace(optimizer=optimizer, seed=seed), args.work / f"{rule}-{best:g}-seed{seed}", args.data_dir)
        for seed in range(args.seeds)
    ]
    finals = [run["final"] for run in runs if run["final"]]
    records = runs[0]["records"]
    return Row(
        rule=rule,
        learning_rate=peak(optimizer),
        searched={f"{f:g}": v for f, v in searched.items()},
        test=[f["test"]["accuracy"] for f in finals],
        train_loss=[f["train"]["loss"] for f in finals],
        validation=[r["accuracy"] for r in records if r["split"] == "validation"],
        losses=[r["loss"] for r in records if r["split"] == "train"],
        seconds=runs[0].get("seconds", math.nan),
    )


def table(rows: list[Row]) -> str:
    """The table in Markdown, the best test accuracy first."""
    lines = [
        "| rule | peak learning rate | test accuracy, % | training loss |",
        "| --- | --- | --- | --- |",
    ]
    for row in sorted(rows, key=lambda r: -statistics.mean(r.test)):
        percent = [100 * x for x in row.test]
        spread = f" ± {statistics.stdev(percent):.2f}" if len(percent) > 1 else ""
        lines.append(
            f"| `{row.rule}` | {row.learning_rate:.3g} | {statistics.mean(percent):.2f}{spread} "
            f"| {statistics.mean(row.train_loss):.4f} |"
        )
    return "\n".join(lines) + "\n"


def draw(rows: list[Row], target: Path) -> None:
    """Training loss and validation accuracy of every rule against the epoch."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    colors = plt.get_cmap("tab20").colors
    for i, row in enumerate(sorted(rows, key=lambda r: -statistics.mean(r.test))):
        style = {"color": colors[i % 20], "linestyle": "-" if i < 20 else "--", "label": row.rule}
        epochs = len(row.validation)
        left.semilogy([epochs * (k + 1) / len(row.losses) for k in range(len(row.losses))], row.losses, **style)
        right.plot(range(1, epochs + 1), row.validation, **style)
    left.set(xlabel="epoch", ylabel="training loss")
    right.set(xlabel="epoch", ylabel="validation accuracy", ylim=(0.8, None))
    right.legend(ncols=2, fontsize=8)
    figure.savefig(target, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="holds fashion_mnist/")
    parser.add_argument("--work", type=Path, default=Path("runs/comparison"), help="where the runs go")
    parser.add_argument("--docs", type=Path, help="write the numbers and the picture below this folder")
    parser.add_argument("--rules", help="some of the rules, with commas between")
    parser.add_argument("--search", type=float, default=1.0, help="epochs for each learning rate tried")
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    known = [name.removeprefix(PREFIX) for name in shipped() if name.startswith(PREFIX)]
    rows = []
    for rule in args.rules.split(",") if args.rules else known:
        rows.append(compare(rule, args))
        print(table(rows[-1:]).splitlines()[-1], rows[-1].searched, flush=True)
    print(table(rows))
    if args.docs:
        numbers = [dataclasses.asdict(row) for row in rows]
        (args.docs / "comparison.json").write_text(json.dumps(numbers, indent=1) + "\n")
        draw(rows, args.docs / "images" / "comparison.png")


if __name__ == "__main__":
    main()
