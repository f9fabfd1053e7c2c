"""Functions that find a data set's files, with clear errors for missing or unreadable ones."""

import contextlib
import dataclasses
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from jaxtrain.errors import DataError


class FileSet(NamedTuple):
    """One form in which a data set is distributed: a set of files that belong together.

    Attributes:
      name: the name of the form, which tells the reader the format.
      files: the alternative names of each file, relative to the folder; the first existing one is used.
      text: the description of the files for messages.
    """

    name: str
    files: tuple[tuple[str, ...], ...]
    text: str


class FoundFiles(NamedTuple):
    """The name of the form that was found and its files, in the order of `Form.files`."""

    form: str
    files: tuple[Path, ...]


@dataclasses.dataclass(frozen=True)
class Search:
    """The possible locations of a data set's files, and their source.

    Attributes:
      name: the data set's name for messages.
      directory: the run's data directory; None if none is configured.
      folders: the folders under `directory` in order of preference; "" is `directory` itself.
      origin: the site from which the files can be downloaded; empty for a user's own files.
    """

    name: str
    directory: Path | None
    folders: tuple[str, ...]
    origin: str = ""

    def find(self, *forms: FileSet) -> FoundFiles:
        """Return the first form that is complete in one of the folders; raise `DataError` with the missing files."""
        wanted = ", or ".join(form.text for form in forms)
        root = data_directory(self.name, self.directory, self._describe(wanted))
        folders = [root / folder for folder in self.folders]
        incomplete = ""
        for folder in folders:
            for form in forms:
                found = [_find_first(folder, names) for names in form.files]
                files = tuple(path for path in found if path is not None)
                if len(files) == len(form.files):
                    return FoundFiles(form.name, files)
                if files and not incomplete:
                    missing = [names[0] for names, path in zip(form.files, found, strict=True) if path is None]
                    incomplete = f"{self.name}: found {_join(files)}, but not {_join(missing)}"
        if incomplete:
            raise DataError(f"{incomplete}; {self._advice(folders[0])}")
        raise DataError(f"{self.name}: not found in {_join(folders)}; expected {wanted}; {self._advice(folders[0])}")

    def _describe(self, wanted: str) -> str:
        return f"{wanted} (from {self.origin})" if self.origin else wanted

    def _advice(self, folder: Path) -> str:
        source = f"download what is missing from {self.origin} and put it" if self.origin else "put what is missing"
        return f"{source} into {folder}"


def data_directory(name: str, directory: Path | None, wanted: str) -> Path:
    """Return `directory` if it is configured and exists; else raise `DataError` with the files `wanted`."""
    if directory is None:
        raise DataError(
            f"{name}: no data directory is configured; set data.directory in the config, pass --data-dir DIR, or set "
            f"the environment variable JAXTRAIN_DATA to the folder that holds {wanted}"
        )
    root = Path(os.path.expanduser(directory))
    if not is_directory(root):
        problem = "is not a directory" if is_file(root) else "does not exist"
        raise DataError(
            f"{name}: the data directory {root} {problem}; data.directory, --data-dir or JAXTRAIN_DATA must name the "
            f"folder that holds {wanted}"
        )
    return root


@contextlib.contextmanager
def reading(path: object, *damage: type[Exception]) -> Iterator[None]:
    """Convert exceptions during the reading of `path` to a `DataError` with the path, inside a `with` block.

    An `OSError` of the system (permission, a loop of links) means that the file cannot be accessed. An `OSError` of a
    decoder, an `EOFError`, and the exceptions in `damage` mean that its contents are invalid.
    """
    caught: tuple[type[Exception], ...] = (OSError, EOFError, *damage)
    try:
        yield
    except caught as error:
        if isinstance(error, OSError) and error.errno is not None:
            message = f"{path} cannot be read: {error.strerror}; check that it exists and that its permissions allow it"
        else:
            message = f"{path} cannot be decoded: {describe_error(error)}; it is damaged or incomplete: replace it"
        raise DataError(message) from error


def describe_error(error: Exception) -> str:
    """Return the first line of the error's message without its period, or the error's class name if it is empty."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(error).__name__


def is_file(path: Path) -> bool:
    """Return whether `path` is a file; raise `DataError` if the system denies access."""
    return stat.S_ISREG(_mode(path))


def is_directory(path: Path) -> bool:
    """Return whether `path` is a directory; raise `DataError` if the system denies access."""
    return stat.S_ISDIR(_mode(path))


def _mode(path: Path) -> int:
    # Path.is_file returns False for some system errors and raises others, depending on the Python version.
    with reading(path):
        try:
            return path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return 0
        except ValueError:  # an invalid file name, such as one with a zero byte
            return 0


def _find_first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if is_file(folder / name)), None)


def _join(items: list[Path] | list[str] | tuple[Path, ...]) -> str:
    """Join items as `a`, `a and b`, or `a, b and c`."""
    words = [str(item) for item in items]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
