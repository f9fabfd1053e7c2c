"""Finding a data set's files, and saying of those that are missing or unreadable what, where and what to do."""

import contextlib
import dataclasses
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from jaxtrain.errors import DataError


class Form(NamedTuple):
    """One way in which a data set is handed around: a set of files that belong together.

    Attributes:
      name: by which the reader knows what it was given.
      files: each file as the names that it may have, relative to the folder; the first that exists is taken.
      text: the files in words, for messages.
    """

    name: str
    files: tuple[tuple[str, ...], ...]
    text: str


class Found(NamedTuple):
    """The name of the form that is there and its files, in the order of `Form.files`."""

    form: str
    files: tuple[Path, ...]


@dataclasses.dataclass(frozen=True)
class Search:
    """Where the files of a data set may lie, and where they come from.

    Attributes:
      name: the data set, for messages.
      directory: the run's data directory; None where none is configured.
      folders: places under `directory` in the order of preference; "" is `directory` itself.
      origin: the site where the files are to be had; empty where they are the user's own.
    """

    name: str
    directory: Path | None
    folders: tuple[str, ...]
    origin: str = ""

    def find(self, *forms: Form) -> Found:
        """The first form that is complete in one of the folders; `DataError` names what is missing, and where."""
        wanted = ", or ".join(form.text for form in forms)
        root = data_directory(self.name, self.directory, self._wish(wanted))
        places = [root / folder for folder in self.folders]
        incomplete = ""
        for place in places:
            for form in forms:
                found = [_first(place, names) for names in form.files]
                files = tuple(path for path in found if path is not None)
                if len(files) == len(form.files):
                    return Found(form.name, files)
                if files and not incomplete:
                    missing = [names[0] for names, path in zip(form.files, found, strict=True) if path is None]
                    incomplete = f"{self.name}: {_join(files)} found, but not {_join(missing)} beside"
        if incomplete:
            raise DataError(f"{incomplete}; {self._advice(places[0])}")
        raise DataError(f"{self.name}: not in {_join(places)}. Looked for {wanted}; {self._advice(places[0])}")

    def _wish(self, wanted: str) -> str:
        return f"{wanted} (from {self.origin})" if self.origin else wanted

    def _advice(self, place: Path) -> str:
        source = f"get what is missing from {self.origin} and put it" if self.origin else "put what is missing"
        return f"{source} into {place}"


def data_directory(name: str, directory: Path | None, wanted: str) -> Path:
    """`directory` when it is configured and there; else `DataError` says so and names the files `wanted`."""
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
    """Turns what goes wrong while `path` is read into a `DataError` that names it.

    An `OSError` of the system (permission, a loop of links) says that the file cannot be got at; one of a decoder,
    an `EOFError`, and the exceptions in `damage` say that its contents are no good.
    """
    caught: tuple[type[Exception], ...] = (OSError, EOFError, *damage)
    try:
        yield
    except caught as error:
        if isinstance(error, OSError) and error.errno is not None:
            message = f"{path} cannot be read: {error.strerror}; check that it exists and that its permissions allow it"
        else:
            message = f"{path} cannot be decoded: {reason(error)}; it is damaged or incomplete: replace it"
        raise DataError(message) from error


def reason(error: Exception) -> str:
    """The error's own words, for a sentence: its first line without the full stop, or its name if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(error).__name__


def is_file(path: Path) -> bool:
    """Whether `path` is a file; `DataError` where the system will not say."""
    return stat.S_ISREG(_mode(path))


def is_directory(path: Path) -> bool:
    """Whether `path` is a directory; `DataError` where the system will not say."""
    return stat.S_ISDIR(_mode(path))


def _mode(path: Path) -> int:
    # Path.is_file answers False to some of the system's errors and raises others, which ones changes with Python.
    with reading(path):
        try:
            return path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return 0
        except ValueError:  # a name that no file can have, such as one with a zero byte
            return 0


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if is_file(folder / name)), None)


def _join(items: list[Path] | list[str] | tuple[Path, ...]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    words = [str(item) for item in items]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
