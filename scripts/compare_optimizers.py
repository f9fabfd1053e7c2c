#!/usr/bin/env python3
"""Compares the first-order rules on the variants of the recipe `fashion_comparison`, with the same budget for each.

For every rule five learning rates, the recipe's times 0.1, 0.3, 1, 3 and 10, are tried for `--search` epochs; the one
with the best validation accuracy is trained for the recipe's length from several seeds. Prints the table, and writes
the numbers and the curves that docs/optimizers.md shows. What is there already is not trained again.

python scripts/compare_optimizers.py --data-dir DIR --work DIR [--rules adam,lion] [--docs docs]  (needs the docs extra)
"""

import argparse
import dataclasses
import math
import statistics
from pathlib import Path

from run_grid import Grid, add_arguments, finals, make_rows, write_docs

from jaxtrain.config import OptimizerSpec, list_recipes, load_config
from jaxtrain.config.spec import Spec

PREFIX = "fashion_comparison:"
FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)


def rules() -> list[str]:
    """Return the rules that have a recipe, `PREFIX` and the name of the rule."""
    return [name.removeprefix(PREFIX) for name in list_recipes() if name.startswith(PREFIX)]


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


def peak_rates(optimizer: OptimizerSpec, path: str = "optimizer") -> dict[str, float]:
    """Return the highest learning rate of the optimizer, then that of the one inside it, each by its path."""
    rates: dict[str, float] = {}
    rate = optimizer.options.get("learning_rate")
    if isinstance(rate, Spec):
        rates[f"{path}.learning_rate.peak"] = float(rate.options["peak"])
    elif rate is not None:
        rates[f"{path}.learning_rate"] = float(rate)
    inner = optimizer.options.get("inner")
    return rates | (peak_rates(inner, f"{path}.inner") if isinstance(inner, OptimizerSpec) else {})


def compare(rule: str, grid: Grid, search: float, seeds: int) -> Row:
    """Search the learning rate of a rule, then train with the best."""
    recipe = load_config(PREFIX + rule)
    rates = peak_rates(recipe.optimizer)
    overrides = {factor: [f"{path}={rate * factor}" for path, rate in rates.items()] for factor in FACTORS}
    short = (f"train_for={search:g} epochs", "logging.tensorboard=false")
    searched: dict[float, float] = {}
    for factor in FACTORS:
        found = grid.run(f"{rule}-search-{factor:g}", recipe, [*short, *overrides[factor]], recipe.seed)
        searched[factor] = found.final["validation"]["accuracy"] if found.final else 0.0
    print(f"  {rule}: accuracy by factor {searched}", flush=True)
    best = max(searched, key=lambda f: (searched[f], -abs(math.log(f))))
    outcomes = grid.run_seeds(lambda seed: f"{rule}-{best:g}-seed{seed}", recipe, overrides[best], seeds)
    return Row(
        rule=rule,
        learning_rate=next(iter(rates.values())) * best,
        searched={f"{f:g}": v for f, v in searched.items()},
        test=finals(outcomes, "test", "accuracy"),
        train_loss=finals(outcomes, "train", "loss"),
        validation=outcomes[0].curve("validation", "accuracy"),
        losses=outcomes[0].curve("train", "loss"),
        seconds=outcomes[0].seconds,
    )


def table(rows: list[Row]) -> str:
    """The table in Markdown, the best test accuracy first."""
    lines = ["| rule | peak learning rate | test accuracy, % | training loss |", "| --- | --- | --- | --- |"]
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
    parser.add_argument("--search", type=float, default=1.0, help="epochs for each learning rate tried")
    add_arguments(parser, "comparison", "rules")
    args = parser.parse_args()
    names = args.names.split(",") if args.names else rules()
    grid = Grid(args.work, args.data_dir)
    rows = make_rows(names, lambda rule: compare(rule, grid, args.search, args.seeds), table)
    if args.docs:
        write_docs(args.docs, "comparison", rows, draw)


if __name__ == "__main__":
    main()
