"""Writers of metric records: `metrics.jsonl`, one object a line, and TensorBoard events."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from jaxtrain.errors import WorkdirError

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
    """Writes each metric as the scalar `split/metric`; events of steps made again after a kill are purged."""

    def __init__(self, directory: Path, step: int):
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(logdir=str(directory), purge_step=step + 1 if step else None)

    def write(self, record: Record) -> None:
        """Takes one record."""
        for name, value in record.items():
            if name not in ("step", "epoch", "split"):
                self._writer.add_scalar(f"{record['split']}/{name}", value, record["step"])

    def close(self) -> None:
        """Flushes and closes the event file."""
        self._writer.close()
