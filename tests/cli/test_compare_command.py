"""`jaxtrain compare`: tables, charts and refusals."""

import json
import sys
from pathlib import Path

import pytest

from jaxtrain.cli.main import main


def test_compare_prints_counts_times_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    models = ["lenet5", "linear"]
    assert main(["compare", *models, "--input", "16x16x1", "--batch-size", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("models; times of a batch of 2 on cpu")
    header = next(line for line in lines if line.split()[:1] == ["model"])
    assert all(x in header for x in ("parameters", "mult-adds", "forward ms", "step ms", "step memory", "error %"))
    row = next(line.split() for line in lines if line.split()[:1] == ["linear"])
    assert row[:4] == ["linear", "16x16x1", "2,570", "2.6K"]
    assert all(float(x) > 0 for x in row[4:6])
    assert row[7] in ("KiB", "MiB")


def test_compare_json_contains_every_published_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "resnet20", "lenet5", "--no-time", "--json", "--error", "lenet5=0.87"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["parameters"], first["published"][0]["error"]) == (269_722, 8.75)
    assert second["published"][0] == {
        "data": "errors as given",
        "metric": "top-1",
        "error": 0.87,
        "protocol": "",
        "source": "--error",
    }
    assert "step_ms" not in first


@pytest.mark.slow
def test_compare_draws_a_chart_of_models_with_a_published_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="a picture takes matplotlib, the `docs` extra")
    target = tmp_path / "models.png"
    models = ["alexnet", "vgg11", "resnet18", "resnet20", "lenet5", "mlp"]
    assert main(["compare", *models, "--no-time", "--error", "mlp=1.6", "--output", str(target)]) == 0
    output = capsys.readouterr()
    assert target.read_bytes().startswith(b"\x89PNG")
    assert "no published top-1 error: lenet5\n" in output.err
    assert "42.90 [1]" in output.out
    assert "[1] ImageNet, top-1, 1 crop, Caffe's reference model" in output.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["resnet51"], "did you mean"),
        (["linear", "--batch-size", "0"], "--batch-size: "),
        (["linear", "--input", "4x4"], "--input: "),
        (["linear", "--error", "linear=x"], "MODEL=PERCENT"),
        (["linear", "--error", "linear=101"], "MODEL=PERCENT"),
        (["linear", "--error", "mlp=1"], "'mlp' is not among the models to compare"),
        (["lenet5", "--input", "4x4x1"], "lenet5 on 4x4x1: lenet5 needs images of at least 16x16"),
    ],
)
def test_compare_refuses_bad_arguments(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *arguments, "--no-time"]) == 2
    assert says in capsys.readouterr().err


def test_compare_refuses_an_impossible_chart_before_measuring(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxtrain.analysis.compare.compare", lambda *_, **__: pytest.fail("measured"))
    target = str(tmp_path / "x.png")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["compare", "resnet20", "--output", target]) == 2
    assert "needs matplotlib: install jaxtrain[docs]" in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert main(["compare", "linear", "--output", target]) == 2
    assert "none of the models has a published top-1 error" in capsys.readouterr().err
    assert main(["compare", "resnet20", "--output", str(tmp_path / "no" / "x.png")]) == 2
    assert "cannot write" in capsys.readouterr().err
