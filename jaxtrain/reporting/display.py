"""Displays of a run's progress: a live progress bar on a terminal, plain lines elsewhere, or nothing."""

import time
from collections.abc import Mapping
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from jaxtrain.config import RunLength

_REFRESH_SECONDS = 0.25
_MIN_DATA_WAIT = 0.05
"""Fraction of the time spent waiting for data from which the display mentions it."""


class Display(Protocol):
    """The interface of a display, which the run calls as it progresses."""

    def start(self, clock: RunLength, step: int) -> None:
        """Start the display; `step` steps have been taken already."""

    def update_step(self, step: int) -> None:
        """Report that `step` steps have been taken. Called after each dispatch, so it must cost next to nothing."""

    def record(self, record: Mapping[str, Any]) -> None:
        """Show the metrics of a split."""

    def line(self, text: str, style: str = "") -> None:
        """Show a message."""

    def stop(self) -> None:
        """Stop the display; training has finished or failed."""


class SilentDisplay:
    """A display that shows nothing."""

    def start(self, clock: RunLength, step: int) -> None:
        """Do nothing."""

    def update_step(self, step: int) -> None:
        """Do nothing."""

    def record(self, record: Mapping[str, Any]) -> None:
        """Do nothing."""

    def line(self, text: str, style: str = "") -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""


class PlainDisplay(SilentDisplay):
    """A display for logs and pipes: one line per evaluation, and at most one every few seconds for training.

    Args:
      console: console to print to.
      seconds: least time between two lines of training metrics.
    """

    def __init__(self, console: Console, seconds: float = 5.0):
        self._console = console
        self._seconds = seconds
        self._printed = time.monotonic()
        self._clock: RunLength | None = None
        self._rate = 0.0

    def start(self, clock: RunLength, step: int) -> None:
        """Store the length of the run."""
        self._clock = clock

    def record(self, record: Mapping[str, Any]) -> None:
        """Print the metrics of evaluations, and those of training at most every `seconds`."""
        now = time.monotonic()
        if record["split"] == "train":
            self._rate = record.get("images_per_second", self._rate)
            if now - self._printed < self._seconds:
                return
        self._printed = now
        self.line(f"{format_record(record, self._clock)}{self._format_eta(record)}")

    def _format_eta(self, record: Mapping[str, Any]) -> str:
        if record["split"] != "train" or self._clock is None or not self._rate or not self._clock.total_steps:
            return ""
        left = (self._clock.total_steps - record["step"]) * self._clock.batch_size / self._rate
        return f"  eta {_format_duration(left)}"

    def line(self, text: str, style: str = "") -> None:
        """Print a line without wrapping it."""
        self._console.print(text, style=style or None, highlight=False, soft_wrap=True, markup=False)


class LiveDisplay(PlainDisplay):
    """A progress bar with the latest training metrics, below one line per evaluation."""

    def __init__(self, console: Console):
        super().__init__(console, seconds=float("inf"))
        self._progress = Progress(
            TextColumn("{task.fields[epoch]}"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[metrics]}"),
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(),
            console=console,
            auto_refresh=False,  # a refresh thread would take time from the training step
            transient=True,
        )
        self._task = self._progress.add_task("train", total=None, epoch="", metrics="compiling", completed=0)
        self._refreshed = 0.0

    def start(self, clock: RunLength, step: int) -> None:
        """Show the progress bar."""
        super().start(clock, step)
        self._progress.reset(self._task, total=clock.total_steps, completed=step, epoch="", metrics="compiling")
        self._progress.start()
        self._progress.refresh()

    def update_step(self, step: int) -> None:
        """Update the progress bar, at most four times a second."""
        now = time.monotonic()
        if now - self._refreshed >= _REFRESH_SECONDS and self._clock is not None:
            self._refreshed = now
            self._progress.update(self._task, completed=step, epoch=f"epoch {self._clock.epoch(step):.1f}")
            self._progress.refresh()

    def record(self, record: Mapping[str, Any]) -> None:
        """Show training metrics in the progress bar, and evaluations as lines above it."""
        if record["split"] == "train":
            self._progress.update(self._task, metrics=_format_metrics(record))
        super().record(record)

    def stop(self) -> None:
        """Remove the progress bar."""
        self._progress.stop()


def format_record(record: Mapping[str, Any], clock: RunLength | None) -> str:
    """Return a record as a line: `epoch   3.00  step 120/1200  validation  loss 0.1234  accuracy 96.11 %`."""
    total = f"/{clock.total_steps}" if clock is not None and clock.total_steps else ""
    return (
        f"epoch {record['epoch']:>6.2f}  step {record['step']}{total}  {record['split']:<10}  {_format_metrics(record)}"
    )


def _format_metrics(record: Mapping[str, Any]) -> str:
    if "loss" not in record:  # float16 training skips steps until the loss scale fits
        return "every step was skipped"
    parts = [f"loss {record['loss']:.4f}", f"accuracy {100 * record['accuracy']:.2f} %"]
    if "learning_rate" in record:
        parts.append(f"lr {record['learning_rate']:.2e}")
    if "images_per_second" in record:
        parts.append(f"{record['images_per_second']:,.0f} images/s")
    if record.get("data_wait", 0.0) >= _MIN_DATA_WAIT:
        parts.append(f"waiting for data {100 * record['data_wait']:.0f} % of the time")
    return "  ".join(parts)


def _format_duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def make_display(console: Console) -> Display:
    """Return a live display for a terminal, and a plain one for anything else."""
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(console)


def summary_line(name: str, metrics: Mapping[str, Mapping[str, float]]) -> str:
    """Return a line with the accuracy on each split."""
    accuracies = ", ".join(f"{split} {100 * m['accuracy']:.2f} %" for split, m in metrics.items())
    return f"{name:<16}accuracy: {accuracies}"
