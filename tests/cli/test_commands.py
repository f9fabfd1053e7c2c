"""The commands as a user calls them, on one tiny run."""

import json
from pathlib import Path

import pytest

from jaxtrain import __version__
from jaxtrain.cli.main import COMMANDS, main
from jaxtrain.config import dumps
from tests.conftest import tiny_config


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Train two runs with different seeds through the command line."""
    base = tmp_path_factory.mktemp("runs")
    config = base / "tiny.json"
    config.write_text(dumps(tiny_config()))
    for seed in (0, 1):
        assert main(["train", str(config), f"seed={seed}", "--workdir", str(base / str(seed)), "--quiet"]) == 0
    return base / "0", base / "1"


def test_train_prints_the_run_its_progress_and_its_result(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(runs[0] / "config.json"), "--workdir", str(runs[0])]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        "mlp (163 parameters) on synthetic (80 train, 16 validation, 20 test) for 12 steps = 12 steps of 16" in lines[0]
    )
    assert lines[1] == "continuing from step 12 of 12"
    result = json.loads((runs[0] / "result.json").read_text())
    assert f"test {100 * result['final']['test']['accuracy']:.2f} %" in lines[-3]
    assert f"parameters {result['params_sha256'][:16]}" in lines[-1]


def test_eval_prints_the_metrics_of_the_result(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(runs[0]), "--checkpoint", "last", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    result = json.loads((runs[0] / "result.json").read_text())
    assert {k: record[k] for k in ("loss", "accuracy")} == result["final"]["test"]
    assert (record["step"], record["split"], record["examples"]) == (12, "test", 20)


def test_diff_shows_settings_and_results(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["diff", str(runs[0]), str(runs[1])]) == 0
    output = capsys.readouterr().out
    assert "seed" in output
    assert "params_sha256" in output
    assert "optimizer" not in output
    assert main(["diff", str(runs[0]), str(runs[0] / "config.json")]) == 0
    assert capsys.readouterr().out == "the configs are equal\n"


def test_diff_accepts_variants_of_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "fashion_comparison", "fashion_comparison:sgd"]) == 0
    assert capsys.readouterr().out == "the configs are equal\n"
    assert main(["diff", "fashion_comparison", "fashion_comparison:adam"]) == 0
    assert "optimizer.name" in capsys.readouterr().out


def test_doctor_names_versions_devices_caches_and_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--data-dir", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert [line for line in output.splitlines() if not line.startswith(" ")] == [
        "versions",
        "devices",
        "caches",
        "data",
    ]
    rows = {line.split()[0]: line.split(maxsplit=1)[1] for line in output.splitlines() if line.startswith("  ")}
    assert rows["digits"] == "found: 1,437 train, 360 test"
    assert rows["mnist"] == "not found"
    assert rows["backend"] == "cpu"
    assert rows["directory"] == str(tmp_path)
    assert rows["jax"][0].isdigit()


@pytest.mark.parametrize("command", [command.NAME for command in COMMANDS])
def test_every_command_has_help_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    output = capsys.readouterr().out
    assert f"usage: jaxtrain {command}" in output
    assert f"examples:\n  jaxtrain {command}" in output


def test_the_version_option_prints_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"jaxtrain {__version__}\n"


def test_overrides_may_appear_between_options(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    config = str(runs[0] / "config.json")
    assert main(["check", config, "seed=5", "--data-dir", "nowhere", "data.batch_size=8"]) == 0
    output = capsys.readouterr().out
    assert '"seed": 5' in output
    assert '"batch_size": 8' in output


@pytest.mark.slow
def test_eval_with_folded_batch_normalization_gives_the_same_metrics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "normed.json"
    config.write_text(dumps(tiny_config(model="cifar_resnet(depth=8)", train_for="5 steps")))
    assert main(["train", str(config), "--workdir", str(tmp_path / "run"), "--quiet"]) == 0
    records = []
    for options in ([], ["--fold-batchnorm"]):
        capsys.readouterr()
        assert main(["eval", str(tmp_path / "run"), "--json", *options]) == 0
        records.append(json.loads(capsys.readouterr().out))
    assert records[0]["accuracy"] == records[1]["accuracy"]
    assert records[0]["loss"] == pytest.approx(records[1]["loss"], rel=1e-5)


def test_eval_refuses_to_fold_missing_batch_normalization(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(runs[0]), "--fold-batchnorm"]) == 2
    assert "mlp has no batch normalization" in capsys.readouterr().err
