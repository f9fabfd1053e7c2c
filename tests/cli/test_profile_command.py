"""`jaxtrain profile`: its output, the directory of its trace, and refusals."""

from pathlib import Path

import pytest

from jaxtrain.cli.main import main
from jaxtrain.config import dumps
from tests.conftest import tiny_config


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "recipe.json"
    path.write_text(dumps(tiny_config()))
    return str(path)


def test_profile_prints_operations_and_utilization_and_writes_a_trace(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["profile", recipe, "--steps", "3", "--top", "4", "optimizer.momentum=0.8"]) == 0
    out = capsys.readouterr().out
    for text in ("3 steps traced", "others", "dispatch gap", "cores busy", "MFU", "GB/s", "tensorboard --logdir"):
        assert text in out
    (folder,) = Path("profiles").iterdir()
    assert folder.name.startswith("recipe-")
    assert len(list(folder.rglob("*.xplane.pb"))) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--steps", "0"], "--steps 0: it must be >= 1"),
        (["--top", "-1"], "--top -1: it must be >= 1"),
        (["optimizer.momentm=0.9"], "momentum"),
    ],
)
def test_profile_refuses_bad_arguments(
    recipe: str, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", recipe, *arguments]) == 2
    assert told in capsys.readouterr().err
