"""Train every (name, overrides, seed) of a grid once, for `compare_optimizers.py` and `ablate_regularization.py`.

Results lie in one file, `grid.json` in the folder of the runs, written after each run. What it holds is not trained
again, and a run that was interrupted continues.
"""

import argparse
import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jaxtrain
from jaxtrain.config import Config, apply_overrides, digest
from jaxtrain.errors import Diverged


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run gave.

    Attributes:
      final: the metrics by split after the last step, None for a run that diverged.
      records: the lines of `metrics.jsonl`.
      seconds: the wall time of training, with compiling.
    """

    final: dict[str, dict[str, float]] | None
    records: list[dict[str, Any]]
    seconds: float

    def curve(self, split: str, metric: str) -> list[float]:
        """Return the values of `metric` on `split` in the order of time."""
        return [record[metric] for record in self.records if record["split"] == split]


class Grid:
    """Runs below one folder.

    Args:
      work: the folder of the run directories and of `grid.json`.
      data_dir: where data files are.
    """

    def __init__(self, work: Path, data_dir: Path):
        self.work, self.data_dir = work, data_dir
        self._file = work / "grid.json"
        self._known: dict[str, Any] = json.loads(self._file.read_text()) if self._file.exists() else {}

    def run(self, name: str, config: Config, overrides: Iterable[str] = (), seed: int = 0) -> Outcome:
        """Return the outcome of `config` with `overrides` and `seed`, trained in the directory `name` if it is new."""
        resolved = apply_overrides(config, [*overrides, f"seed={seed}"])
        key = f"{name} {digest(resolved)}"
        if key not in self._known:
            self._known[key] = dataclasses.asdict(self._train(name, resolved))
            partial = self._file.with_suffix(".partial")
            partial.write_text(json.dumps(self._known, indent=1) + "\n")
            partial.replace(self._file)
        return Outcome(**self._known[key])

    def run_seeds(
        self, name: Callable[[int], str], config: Config, overrides: Sequence[str], seeds: int
    ) -> list[Outcome]:
        """Return the outcomes of the seeds 0, 1, ... that did not diverge; `name` gives the directory of a seed."""
        outcomes = [self.run(name(seed), config, overrides, seed) for seed in range(seeds)]
        finished = [outcome for outcome in outcomes if outcome.final is not None]
        if not finished:
            raise SystemExit(f"{name(0)}: every seed diverged")
        return finished

    def _train(self, name: str, config: Config) -> Outcome:
        workdir = self.work / name
        try:
            result = jaxtrain.fit(config, workdir, data_dir=self.data_dir)
        except Diverged as error:
            print(f"  {name}: {error}", flush=True)
            return Outcome(None, [], 0.0)
        lines = (workdir / "metrics.jsonl").read_text().splitlines()
        return Outcome(result.final, [json.loads(line) for line in lines], result.wall_seconds)


def finals(outcomes: Iterable[Outcome], split: str, metric: str) -> list[float]:
    """Return `metric` on `split` after the last step, one value for each outcome."""
    return [outcome.final[split][metric] for outcome in outcomes if outcome.final is not None]


def add_arguments(parser: argparse.ArgumentParser, work: str, rows: str) -> None:
    """Declare what both scripts take: the folder of the runs, that of the docs, a choice of `rows`, and seeds."""
    parser.add_argument("--work", type=Path, default=Path("runs", work), help="where the runs go")
    parser.add_argument("--docs", type=Path, help="write the numbers and the picture below this folder")
    parser.add_argument(f"--{rows}", dest="names", help=f"some of the {rows}, with commas between")
    parser.add_argument("--seeds", type=int, default=2)


def make_rows(names: Iterable[str], make: Callable[[str], Any], table: Callable[[list[Any]], str]) -> list[Any]:
    """Return the row of each name, and print its line of the table at once and the whole table in the end."""
    rows = []
    for name in names:
        rows.append(make(name))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    print(table(rows))
    return rows


def write_docs(docs: Path, name: str, rows: list[Any], draw: Callable[[list[Any], Path], None]) -> None:
    """Write the rows to `NAME.json`, and their picture to `images/NAME.png`."""
    numbers = [dataclasses.asdict(row) for row in rows]
    (docs / f"{name}.json").write_text(json.dumps(numbers, indent=1) + "\n")
    draw(rows, docs / "images" / f"{name}.png")
