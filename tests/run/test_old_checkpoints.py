"""A run written by an earlier version can be read and gives its recorded results.

`tests/golden/run` was trained with the first version of config.json, jax 0.10.2 and orbax-checkpoint 0.12.8. Do not
regenerate it when a test fails: the runs of users have this format.
"""

import json
import shutil
from pathlib import Path

import pytest

import jaxtrain
from jaxtrain.config import load_config
from jaxtrain.run.evaluate_run import evaluate_run

OLD = Path(__file__).parents[1] / "golden" / "run"


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_stored_old_checkpoint_evaluates_to_its_recorded_result(split: str) -> None:
    result = json.loads((OLD / "result.json").read_text())
    record = evaluate_run(OLD, split, "last")
    assert record["step"] == result["step"] == 12
    assert record["accuracy"] == result["final"][split]["accuracy"]
    assert record["loss"] == pytest.approx(result["final"][split]["loss"], rel=1e-5)


def test_fit_on_a_finished_old_run_returns_its_parameters(tmp_path: Path) -> None:
    shutil.copytree(OLD, tmp_path / "run")
    result = jaxtrain.fit(load_config(OLD), tmp_path / "run")
    assert result.params_sha256 == json.loads((OLD / "result.json").read_text())["params_sha256"]
