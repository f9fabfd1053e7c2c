"""The output of `fit` when it is called from Python."""

import signal
from pathlib import Path

import pytest

from jaxtrain.errors import Interrupted
from jaxtrain.run.fit import fit
from tests.conftest import tiny_config


def test_fit_shows_its_progress_unless_progress_is_false(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tiny_config(), tmp_path / "shown")
    shown = capsys.readouterr().out
    assert "run directory" in shown
    assert "validation" in shown
    fit(tiny_config(), tmp_path / "silent", progress=False)
    assert capsys.readouterr().out == ""


def test_a_run_interrupted_in_a_notebook_can_be_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook's stop button sends SIGINT to the process, whose main thread runs the cell."""
    whole = fit(tiny_config(), tmp_path / "whole", progress=False)
    monkeypatch.setattr(
        "jaxtrain.reporting.display.SilentDisplay.update_step", lambda _, step: signal.raise_signal(signal.SIGINT)
    )
    with pytest.raises(Interrupted):
        fit(tiny_config(), tmp_path / "run", progress=False)
    monkeypatch.undo()
    assert fit(tiny_config(), tmp_path / "run", progress=False).params_sha256 == whole.params_sha256
