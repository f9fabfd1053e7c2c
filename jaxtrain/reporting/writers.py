"""Writers of metric records: `metrics.jsonl`, one object a line, and TensorBoard events."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from jaxtrain.errors import WorkdirError

_FLUSH_SECONDS = 30.0

Record = Mapping[str, Any]
"""`step`, `epoch`, `split` and metrics."""


class Writer(Protocol):
    """Takes records until it is closed."""

    def write(self, record: Record) -> None:
        """Takes one record."""

    def close(self) -> None:
        """Leaves everything on disk."""


class JsonLines:
    """Appends each record as a line, which is in the file before `write` returns.

    Nothing is buffered, so that closing has nothing left to write, nor to fail at.
    """

    def __init__(self, path: Path):
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise WorkdirError(f"cannot write {path}: {error.strerror or error}") from error

    def write(self, record: Record) -> None:
        """Takes one record."""
        try:
            rest = memoryview(json.dumps(record).encode() + b"\n")
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise WorkdirError(f"cannot write {self._file.name}: {error.strerror or error}") from error

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class TensorBoard:
    """Writes each metric as the scalar `split/metric`; events of steps made again after a kill are purged.

    A record is one event, written at once: tensorboardX's own writer passes an event a metric through a pipe to a
    thread, which takes eight times as long.
    """

    def __init__(self, directory: Path, step: int):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2, summary_pb2

        self._directory, self._proto, self._summary = directory, event_pb2, summary_pb2.Summary
        with self._written():
            directory.mkdir(parents=True, exist_ok=True)
            self._file = EventsWriter(str(directory / "events"))
        self._flushed = time.monotonic()
        if step:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._event(step + 1, session_log=start)

    def write(self, record: Record) -> None:
        """Takes one record."""
        value, split = self._summary.Value, record["split"]
        scalars = [
            value(tag=f"{split}/{name}", simple_value=number)
            for name, number in record.items()
            if name not in ("step", "epoch", "split")
        ]
        self._event(record["step"], summary=self._summary(value=scalars))
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            with self._written():
                self._file.flush()
            self._flushed = time.monotonic()

    def _event(self, step: int, **content: Any) -> None:
        with self._written():
            self._file.write_event(self._proto.Event(wall_time=time.time(), step=step, **content))

    @contextlib.contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise WorkdirError(f"cannot write to {self._directory}: {error.strerror or error}") from error

    def close(self) -> None:
        """Flushes and closes the event file."""
        self._file.close()
