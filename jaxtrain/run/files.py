"""Atomic writing of files: a process that is killed leaves either the old content or the new."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from jaxtrain.errors import WorkdirError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace the file at `path` by `content` with one rename after a sync to disk; text is written as UTF-8."""
    temporary = path.with_name(f".{path.name}.partial")  # a fixed name, so that the next write replaces a leftover
    with convert_os_errors(f"write {path}"):
        try:
            with temporary.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def convert_os_errors(action: str) -> Iterator[None]:
    """Convert an `OSError` in a `with` block to a `WorkdirError`: "cannot {action}: {reason}"."""
    try:
        yield
    except OSError as error:
        raise WorkdirError(f"cannot {action}: {error.strerror or error}") from error
