"""`jaxtrain plot`: JSON, image files, terminal charts and refusals."""

import json
from pathlib import Path

import pytest

from jaxtrain.cli.main import main
from jaxtrain.reporting.terminal_chart import chart


def test_plot_schedule_json_contains_the_values(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["plot", "schedule", "linear", "peak=0.5", "--for", "2 epochs", "--examples", "40", "--batch-size", "8"]
    assert main([*arguments, "--json"]) == 0
    points = json.loads(capsys.readouterr().out)
    assert [p["step"] for p in points] == list(range(11))
    assert [p["value"] for p in points] == pytest.approx([0.5 * (1 - t / 10) for t in range(11)])


def test_plot_schedule_counts_durations_in_the_given_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    call = "multistep(1.0, boundaries=['1 epoch'])"
    arguments = ["plot", "schedule", call, "factor=0.5", "--for", "50%"]
    assert main(arguments) == 2
    assert "--for" in capsys.readouterr().err
    arguments[-1] = "2 epochs"
    assert main([*arguments, "--examples", "100", "--batch-size", "10", "--json"]) == 0
    values = [p["value"] for p in json.loads(capsys.readouterr().out)]
    assert values == pytest.approx([1.0] * 10 + [0.5] * 11)


def test_plot_schedule_draws_a_chart_that_fits_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["plot", "schedule", "cosine(0.1)"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 60 for line in lines[1:])
    assert lines[0].startswith("cosine(peak=0.1")
    assert any("0.1 ┤" in line for line in lines)
    assert lines[-1].endswith("epochs")


@pytest.mark.slow
def test_plot_schedule_writes_an_image_file(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="a picture takes matplotlib, the `docs` extra")
    target = tmp_path / "schedule.png"
    assert main(["plot", "schedule", "sgdr(0.1, period='2 epochs')", "--output", str(target)]) == 0
    assert target.read_bytes().startswith(b"\x89PNG")
    assert main(["plot", "schedule", "cosine(0.1)", "--output", str(tmp_path / "no" / "x.png")]) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["cosin"], "did you mean 'cosine'"),
        (["cosine", "peek=1"], "did you mean 'peak'"),
        (["cosine"], "peak"),
        (["cosine", "peak"], "OPTION=VALUE"),
        (["cosine", "peak=-1"], "peak: "),
        (["cosine(0.1, warmup='40 epochs')"], "must end after its warm-up"),
        (["plateau", "peak=0.1"], "validation metric"),
        (["cosine(0.1)", "--for", "5"], "--for: "),
        (["cosine(0.1)", "--for", "0 epochs"], "at least one step"),
        (["cosine(0.1)", "--examples", "0"], "--examples: "),
    ],
)
def test_plot_schedule_refuses_bad_arguments(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plot", "schedule", *arguments]) == 2
    assert says in capsys.readouterr().err


def test_a_terminal_chart_draws_a_jump_as_a_line() -> None:
    lines = chart([0, 1, 2, 3], [0.0, 0.0, 1.0, 1.0], width=20, height=3).splitlines()
    assert lines[0].startswith("1 ┤")
    assert lines[2].startswith("0 ┤")
    assert not all(c == chr(0x2800) for c in lines[1].partition("┤")[2])  # between the two levels
    assert chart([0], [1.0], width=20).count("\n") == 13


SMALL = ["plot", "activations", "--layers", "2", "--width", "8", "--init", "xavier", "--init", "normal(0.05)"]


def test_plot_activations_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--activation", "relu", "--batch-size", "4", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["init"], second["init"]) == ("xavier", "normal(0.05)")
    assert [layer["layer"] for layer in first["layers"]] == ["fc1", "fc2"]
    assert sum(second["layers"][1]["counts"]) == 4 * 8
    assert first["layers"][0]["std"] > second["layers"][0]["std"] > 0


@pytest.mark.slow
def test_plot_activations_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(SMALL) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("tanh, 2 layers of 8 units, a batch of 16\n")
    assert printed.count("saturated") == 2
    assert "normal(0.05)" in printed


@pytest.mark.slow
def test_plot_activations_writes_an_image_file(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="a picture takes matplotlib, the `docs` extra")
    target = tmp_path / "activations.png"
    assert main([*SMALL, "--output", str(target)]) == 0
    assert target.read_bytes().startswith(b"\x89PNG")
    assert main([*SMALL, "--output", str(tmp_path / "no" / "x.png")]) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--activation", "tanhh"], "did you mean 'tanh'"),
        (["--activation", "prelu"], "prelu learns"),
        (["--init", "hee"], "did you mean 'he'"),
        (["--width", "0"], "--width: 0 is out of range"),
        (["--seed", "-1"], "--seed: "),
    ],
)
def test_plot_activations_refuses_bad_arguments(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, *arguments]) == 2
    assert says in capsys.readouterr().err
