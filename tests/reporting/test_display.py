"""The display of a run: lines in a pipe, a progress bar on a terminal, and the same numbers in both."""

import io

import pytest
from rich.console import Console

from jaxtrain.config import RunLength
from jaxtrain.reporting.display import LiveDisplay, PlainDisplay, format_record, make_display

CLOCK = RunLength(examples=100, batch_size=10, total_steps=50)


def train(step: int, rate: float = 20.0) -> dict[str, object]:
    return {
        "step": step,
        "epoch": step / 10,
        "split": "train",
        "loss": 0.5,
        "accuracy": 0.25,
        "learning_rate": 0.125,
        "images_per_second": rate,
    }


VALIDATION = {"step": 20, "epoch": 2.0, "split": "validation", "loss": 0.25, "accuracy": 0.75}


def test_the_plain_display_prints_every_evaluation_and_training_at_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("jaxtrain.reporting.display.time.monotonic", lambda: now)
    out = io.StringIO()
    display = PlainDisplay(Console(file=out, width=200), seconds=5)
    display.start(CLOCK, 0)
    display.record(train(1))
    now = 106.0
    display.record(train(10))
    display.record(train(11))
    display.record(VALIDATION)
    assert out.getvalue().splitlines() == [
        # 40 steps of 10 images remain, at 20 images/s
        "epoch   1.00  step 10/50  train       loss 0.5000  accuracy 25.00 %  lr 1.25e-01  20 images/s  eta 0:20",
        "epoch   2.00  step 20/50  validation  loss 0.2500  accuracy 75.00 %",
    ]


def test_a_record_shows_the_waiting_time_for_data_if_it_is_large() -> None:
    said = "  waiting for data 34 % of the time"
    assert format_record({**train(1), "data_wait": 0.342}, CLOCK).endswith(said)
    assert "waiting" not in format_record({**train(1), "data_wait": 0.02}, CLOCK)


def test_the_plain_display_neither_wraps_lines_nor_interprets_markup() -> None:
    out = io.StringIO()
    text = "a path [bold] such as /" + "x" * 300
    PlainDisplay(Console(file=out, width=40)).line(text)
    assert out.getvalue() == text + "\n"


def test_the_live_display_shows_step_metrics_and_evaluations() -> None:
    out = io.StringIO()
    display = make_display(Console(file=out, force_terminal=True, width=160))
    assert isinstance(display, LiveDisplay)
    display.start(CLOCK, 5)
    display.record(train(6))
    display.update_step(7)
    display.record(VALIDATION)
    display.stop()
    shown = out.getvalue()
    for part in ("step 5/50", "compiling", "step 7/50", "lr 1.25e-01", "20 images/s", "eta", "validation  loss 0.2500"):
        assert part in shown
    assert shown.endswith("\x1b[2K"), "the bar is gone at the end"


def test_pipes_get_the_plain_display() -> None:
    assert type(make_display(Console(file=io.StringIO()))) is PlainDisplay
