"""One place that a run reports to: its display, and the writers of its directory while it trains."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxtrain.config import Clock
from jaxtrain.reporting.display import Display, Quiet
from jaxtrain.reporting.writers import JsonLines, TensorBoard, Writer


class Reporter:
    """Hands what happens to a display, and records of metrics to the writers as well."""

    def __init__(self, display: Display):
        self._display = display
        self._writers: list[Writer] = []
        self.stepped = display.stepped
        """Called after each step; the display's own method, since it is on the hot path."""

    def note(self, text: str) -> None:
        """Something worth knowing."""
        self._display.line(text)

    def warn(self, text: str) -> None:
        """Something that went wrong without ending the run."""
        self._display.line(f"warning: {text}", style="yellow")

    def write(self, record: Mapping[str, Any]) -> None:
        """The metrics of a split at a step."""
        for writer in self._writers:
            writer.write(record)
        self._display.record(record)

    @contextlib.contextmanager
    def training(self, metrics_file: Path, tensorboard: Path | None, clock: Clock, step: int) -> Iterator[None]:
        """While it is open, records go to `metrics_file` and, unless it is None, to events in `tensorboard`."""
        self._writers.append(JsonLines(metrics_file))
        if tensorboard is not None:
            self._writers.append(TensorBoard(tensorboard, step))
        self._display.start(clock, step)
        try:
            yield
        finally:
            self._display.stop()
            for writer in self._writers:
                writer.close()
            self._writers.clear()


def quiet() -> Reporter:
    """A reporter that shows nothing; the files are written all the same."""
    return Reporter(Quiet())
