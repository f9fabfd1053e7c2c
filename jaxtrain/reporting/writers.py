"""Writers of metric records: JSON Lines (`metrics.jsonl`, one object per line) and TensorBoard events."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from jaxtrain.errors import WorkdirError

_FLUSH_SECONDS = 30.0

Record = Mapping[str, Any]
"""`step`, `epoch`, `split` and the metrics by name."""


class Writer(Protocol):
    """The interface of a writer, which takes records until it is closed."""

    def write(self, record: Record) -> None:
        """Write one record."""

    def close(self) -> None:
        """Write everything to disk and close the files."""


class JsonLines:
    """A writer that appends each record to a file as a line of JSON.

    It does not buffer: a record is in the file before `write` returns, so that closing cannot fail to write it.
    """

    def __init__(self, path: Path):
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise WorkdirError(f"cannot write {path}: {error.strerror or error}") from error

    def write(self, record: Record) -> None:
        """Write one record."""
        try:
            rest = memoryview(json.dumps(record).encode() + b"\n")
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise WorkdirError(f"cannot write {self._file.name}: {error.strerror or error}") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoard:
    """A writer of TensorBoard events: each metric is the scalar `split/metric`.

    When a killed run continues, TensorBoard purges the events of the steps that are repeated. Each record is written
    directly as one event. tensorboardX's own writer sends one event per metric through a pipe to a thread, which takes
    eight times as long.

    Args:
      directory: directory of the event files, created where it is missing.
      step: number of steps already taken.
    """

    def __init__(self, directory: Path, step: int):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2, summary_pb2

        self._directory, self._proto, self._summary = directory, event_pb2, summary_pb2.Summary
        with self._convert_errors():
            directory.mkdir(parents=True, exist_ok=True)
            self._file = EventsWriter(str(directory / "events"))
        self._last_flush = time.monotonic()
        if step:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._event(step + 1, session_log=start)

    def write(self, record: Record) -> None:
        """Write one record."""
        value, split = self._summary.Value, record["split"]
        scalars = [
            value(tag=f"{split}/{name}", simple_value=number)
            for name, number in record.items()
            if name not in ("step", "epoch", "split")
        ]
        self._event(record["step"], summary=self._summary(value=scalars))
        if time.monotonic() - self._last_flush > _FLUSH_SECONDS:
            with self._convert_errors():
                self._file.flush()
            self._last_flush = time.monotonic()

    def _event(self, step: int, **content: Any) -> None:
        with self._convert_errors():
            self._file.write_event(self._proto.Event(wall_time=time.time(), step=step, **content))

    @contextlib.contextmanager
    def _convert_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise WorkdirError(f"cannot write to {self._directory}: {error.strerror or error}") from error

    def close(self) -> None:
        """Flush and close the event file."""
        self._file.close()
