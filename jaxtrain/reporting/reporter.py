"""The reporter of a run: it passes messages to a display, and metrics to the display and the metric writers."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from jaxtrain.config import RunLength
from jaxtrain.distributed import processes
from jaxtrain.reporting.display import Display, SilentDisplay, make_display
from jaxtrain.reporting.writers import JsonLines, TensorBoard, Writer


class Reporter:
    """A display together with the metric writers that are open while the run trains."""

    def __init__(self, display: Display):
        self._display = display
        self._writers: list[Writer] = []
        self.update_step = display.update_step
        """The display's method, called after each dispatch; not wrapped, since it is on the hot path."""

    def note(self, text: str) -> None:
        """Show a message."""
        self._display.line(text)

    def warn(self, text: str) -> None:
        """Show a warning: something went wrong, but the run goes on."""
        self._display.line(f"warning: {text}", style="yellow")

    def write(self, record: Mapping[str, Any]) -> None:
        """Pass the metrics of a split at a step to the writers and the display."""
        for writer in self._writers:
            writer.write(record)
        self._display.record(record)

    @contextlib.contextmanager
    def training(self, metrics_file: Path, tensorboard: Path | None, clock: RunLength, step: int) -> Iterator[None]:
        """Open the display and the writers, and close them on exit.

        Args:
          metrics_file: JSON Lines file that records are appended to.
          tensorboard: directory of the TensorBoard events; None writes none.
          clock: length of the run.
          step: number of steps already taken.
        """
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


def make_reporter(*, progress: bool) -> Reporter:
    """Return a reporter to the console; without `progress`, or in a process other than 0, one that shows nothing.

    The files of the run are written in both cases.
    """
    if progress and processes.is_process_0():
        return Reporter(make_display(Console()))
    return Reporter(SilentDisplay())
