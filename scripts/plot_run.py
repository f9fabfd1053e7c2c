#!/usr/bin/env python3
"""Draws the curves of a run from its metrics.jsonl: loss, accuracy and learning rate against the epoch.

python scripts/plot_run.py runs/digits_lenet5-1a2b3c4d docs/images/digits_lenet5.png      (needs the docs extra)
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def read(workdir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def draw(workdir: Path, target: Path) -> None:
    records = read(workdir)
    config = json.loads((workdir / "config.json").read_text())
    result = json.loads((workdir / "result.json").read_text())
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    for axis, metric in zip(axes, ("loss", "accuracy", "learning_rate"), strict=True):
        for split, style in (("train", "-"), ("validation", "o-")):
            rows = [r for r in records if r["split"] == split and metric in r]
            if rows:
                epochs, values = [r["epoch"] for r in rows], [r[metric] for r in rows]
                axis.plot(epochs, values, style, markersize=3, linewidth=1.2, label=split)
        axis.set(xlabel="epoch", title=metric.replace("_", " "))
        axis.grid(alpha=0.3)
    axes[0].set_yscale("log")
    axes[0].legend()
    test = result["final"].get("test")
    if test:
        axes[1].axhline(test["accuracy"], color="k", linewidth=0.8, linestyle="--")
        axes[1].text(0, test["accuracy"], f" test, final: {100 * test['accuracy']:.2f} %", va="top", fontsize=8)
        axes[1].set_ylim(bottom=0.8, top=1.01)
    figure.suptitle(f"{config['model']['name']} on {config['data']['dataset']['name']}")
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=Path)
    parser.add_argument("target", type=Path)
    args = parser.parse_args()
    draw(args.workdir, args.target)


if __name__ == "__main__":
    main()
