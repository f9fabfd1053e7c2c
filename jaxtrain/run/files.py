"""Writing files so that a kill at any moment leaves either the old content or the new."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from jaxtrain.errors import WorkdirError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replaces `path` by `content` in one rename, on disk before the rename; text is written as UTF-8."""
    temporary = path.with_name(f".{path.name}.partial")  # one name: what a kill leaves is overwritten the next time
    with os_errors(f"write {path}"):
        try:
            with temporary.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def os_errors(action: str) -> Iterator[None]:
    """Turns an `OSError` into a `WorkdirError` that says what could not be done and why."""
    try:
        yield
    except OSError as error:
        raise WorkdirError(f"cannot {action}: {error.strerror or error}") from error
