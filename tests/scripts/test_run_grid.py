"""The grid of runs of two scripts: a run in its file is not trained again unless its config has changed."""

import dataclasses
import json
from pathlib import Path
from types import ModuleType

import pytest

import jaxtrain
from jaxtrain.config import apply_overrides, load_config
from jaxtrain.errors import Diverged
from tests.conftest import tiny_config

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def run_grid(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import run_grid

    return run_grid


@pytest.fixture
def trained_runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Replace `fit` by a function that records directories and seeds; seed 7 diverges."""
    seen: list[tuple[str, int]] = []

    def fit(config: jaxtrain.Config, workdir: Path, *, data_dir: Path) -> jaxtrain.Result:
        seen.append((workdir.name, config.seed))
        if config.seed == 7:
            raise Diverged("the loss is not finite", 3)
        workdir.mkdir(parents=True, exist_ok=True)
        lines = [{"step": 1, "split": "train", "loss": 0.5}, {"step": 1, "split": "validation", "accuracy": 0.25}]
        (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        final = {"test": {"accuracy": 0.75 + config.seed}}
        return dataclasses.replace(_EMPTY, workdir=workdir, final=final, wall_seconds=2.0)

    monkeypatch.setattr(jaxtrain, "fit", fit, raising=False)
    return seen


_EMPTY = jaxtrain.Result(status="finished", workdir=Path(), step=1, epochs=1.0)


def test_the_grid_does_not_train_a_stored_run_again(
    run_grid: ModuleType, trained_runs: list[tuple[str, int]], tmp_path: Path
) -> None:
    config = tiny_config()
    first = run_grid.Grid(tmp_path, tmp_path).run("a", config, ["optimizer.momentum=0.5"], 1)
    assert first.final == {"test": {"accuracy": 1.75}}
    assert first.curve("validation", "accuracy") == [0.25]
    grid = run_grid.Grid(tmp_path, tmp_path)
    assert grid.run("a", config, ["optimizer.momentum=0.5"], 1) == first
    assert trained_runs == [("a", 1)]
    grid.run("a", config, ["optimizer.momentum=0.25"], 1)
    grid.run("a", config, ["optimizer.momentum=0.5"], 2)
    grid.run("b", config, ["optimizer.momentum=0.5"], 1)
    assert trained_runs == [("a", 1), ("a", 1), ("a", 2), ("b", 1)]


def test_the_grid_writes_each_run_before_the_next_begins(
    run_grid: ModuleType, trained_runs: list[tuple[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = run_grid.Grid(tmp_path, tmp_path)
    grid.run("a", tiny_config(), (), 0)
    monkeypatch.setattr(jaxtrain, "fit", lambda *_, **__: pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception):
        grid.run("a", tiny_config(), (), 1)
    assert [key.split()[0] for key in json.loads((tmp_path / "grid.json").read_text())] == ["a"]
    assert run_grid.Grid(tmp_path, tmp_path).run("a", tiny_config(), (), 0).seconds == 2.0


def test_the_grid_leaves_out_seeds_that_diverge(
    run_grid: ModuleType, trained_runs: list[tuple[str, int]], tmp_path: Path
) -> None:
    grid = run_grid.Grid(tmp_path, tmp_path)
    outcomes = grid.run_seeds(lambda seed: f"a-{seed}", tiny_config(), (), 9)
    assert len(trained_runs) == 9
    assert run_grid.finals(outcomes, "test", "accuracy") == [0.75 + seed for seed in range(9) if seed != 7]
    assert grid.run("only", tiny_config(), (), 7).final is None
    with pytest.raises(SystemExit, match="every seed diverged"):
        grid.run_seeds(lambda seed: "only", tiny_config(seed=7), (), 0)


def test_make_rows_prints_each_row_and_write_docs_stores_them(
    run_grid: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def table(rows: list[jaxtrain.Config]) -> str:
        return "| seed |\n| --- |\n" + "".join(f"| {row.seed} |\n" for row in rows)

    rows = run_grid.make_rows(["1", "2"], lambda name: tiny_config(seed=int(name)), table)
    assert capsys.readouterr().out == "| 1 |\n| 2 |\n| seed |\n| --- |\n| 1 |\n| 2 |\n\n"
    (tmp_path / "images").mkdir()
    notes = [run_grid.Outcome(None, [], float(row.seed)) for row in rows]
    run_grid.write_docs(tmp_path, "notes", notes, lambda _, target: target.write_text("drawn"))
    assert [note["seconds"] for note in json.loads((tmp_path / "notes.json").read_text())] == [1.0, 2.0]
    assert (tmp_path / "images" / "notes.png").read_text() == "drawn"


def test_compare_optimizers_finds_the_peak_rates_of_every_recipe(run_grid: ModuleType) -> None:
    import compare_optimizers

    rules = compare_optimizers.rules()
    assert "adam" in rules
    for rule in rules:
        recipe = load_config(compare_optimizers.PREFIX + rule)
        rates = compare_optimizers.peak_rates(recipe.optimizer)
        assert rates
        changed = apply_overrides(recipe, [f"{path}={rate * 3}" for path, rate in rates.items()])
        assert compare_optimizers.peak_rates(changed.optimizer) == {path: rate * 3 for path, rate in rates.items()}
