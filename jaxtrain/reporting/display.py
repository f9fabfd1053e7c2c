"""What a run shows while it goes on: a live display on a terminal, plain lines elsewhere, or nothing."""

import time
from collections.abc import Mapping
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from jaxtrain.config import Clock

_REFRESH_SECONDS = 0.25
_WAITING_SHOWN = 0.05


class Display(Protocol):
    """Is told of a run, and shows it or not."""

    def start(self, clock: Clock, step: int) -> None:
        """Training begins after `step` steps."""

    def stepped(self, step: int) -> None:
        """So many steps are made; called after each dispatch of one or some, so it must cost next to nothing."""

    def record(self, record: Mapping[str, Any]) -> None:
        """Metrics of a split."""

    def line(self, text: str, style: str = "") -> None:
        """A message."""

    def stop(self) -> None:
        """Training has ended, well or not."""


class Quiet:
    """Shows nothing."""

    def start(self, clock: Clock, step: int) -> None:
        """Shows nothing."""

    def stepped(self, step: int) -> None:
        """Shows nothing."""

    def record(self, record: Mapping[str, Any]) -> None:
        """Shows nothing."""

    def line(self, text: str, style: str = "") -> None:
        """Shows nothing."""

    def stop(self) -> None:
        """Shows nothing."""


class Plain(Quiet):
    """A line for each evaluation, and at most one every few seconds for training; for logs and pipes."""

    def __init__(self, console: Console, seconds: float = 5.0):
        self._console = console
        self._seconds = seconds
        self._last = time.monotonic()
        self._clock: Clock | None = None
        self._rate = 0.0

    def start(self, clock: Clock, step: int) -> None:
        """Remembers the length of the run."""
        self._clock = clock

    def record(self, record: Mapping[str, Any]) -> None:
        """Prints evaluations, and training metrics now and then."""
        now = time.monotonic()
        if record["split"] == "train":
            self._rate = record.get("images_per_second", self._rate)
            if now - self._last < self._seconds:
                return
        self._last = now
        self.line(f"{describe(record, self._clock)}{self._eta(record)}")

    def _eta(self, record: Mapping[str, Any]) -> str:
        if record["split"] != "train" or self._clock is None or not self._rate or not self._clock.total_steps:
            return ""
        left = (self._clock.total_steps - record["step"]) * self._clock.batch_size / self._rate
        return f"  eta {_duration(left)}"

    def line(self, text: str, style: str = "") -> None:
        """Prints a line, unwrapped."""
        self._console.print(text, style=style or None, highlight=False, soft_wrap=True, markup=False)


class Live(Plain):
    """A progress bar with the latest metrics below the lines of the evaluations."""

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
            auto_refresh=False,  # a refreshing thread would take time from the step
            transient=True,
        )
        self._task = self._progress.add_task("train", total=None, epoch="", metrics="compiling", completed=0)
        self._shown = 0.0

    def start(self, clock: Clock, step: int) -> None:
        """Opens the bar."""
        super().start(clock, step)
        self._progress.reset(self._task, total=clock.total_steps, completed=step, epoch="", metrics="compiling")
        self._progress.start()
        self._progress.refresh()

    def stepped(self, step: int) -> None:
        """Moves the bar, a few times a second."""
        now = time.monotonic()
        if now - self._shown >= _REFRESH_SECONDS and self._clock is not None:
            self._shown = now
            self._progress.update(self._task, completed=step, epoch=f"epoch {self._clock.epoch(step):.1f}")
            self._progress.refresh()

    def record(self, record: Mapping[str, Any]) -> None:
        """Shows training metrics in the bar, and evaluations as lines above it."""
        if record["split"] == "train":
            self._progress.update(self._task, metrics=_metrics(record))
        super().record(record)

    def stop(self) -> None:
        """Takes the bar away."""
        self._progress.stop()


def describe(record: Mapping[str, Any], clock: Clock | None) -> str:
    """`epoch  3.0  step 120/1200  validation  loss 0.1234  accuracy 96.11 %`."""
    total = f"/{clock.total_steps}" if clock is not None and clock.total_steps else ""
    return f"epoch {record['epoch']:>6.2f}  step {record['step']}{total}  {record['split']:<10}  {_metrics(record)}"


def _metrics(record: Mapping[str, Any]) -> str:
    if "loss" not in record:  # float16 looks for a scale of the loss
        return "every step was skipped"
    parts = [f"loss {record['loss']:.4f}", f"accuracy {100 * record['accuracy']:.2f} %"]
    if "learning_rate" in record:
        parts.append(f"lr {record['learning_rate']:.2e}")
    if "images_per_second" in record:
        parts.append(f"{record['images_per_second']:,.0f} images/s")
    if record.get("data_wait", 0.0) >= _WAITING_SHOWN:
        parts.append(f"waiting for data {100 * record['data_wait']:.0f} % of the time")
    return "  ".join(parts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def make_display(console: Console) -> Display:
    """A live display on a terminal, plain lines elsewhere."""
    return Live(console) if console.is_terminal else Plain(console)


def summary_line(name: str, metrics: Mapping[str, Mapping[str, float]]) -> str:
    """One line with the accuracy on each split."""
    accuracies = ", ".join(f"{split} {100 * m['accuracy']:.2f} %" for split, m in metrics.items())
    return f"{name:<16}accuracy: {accuracies}"
