"""Exceptions for errors that a user can cause; each message says what is wrong, where, and what to do.

The command line prints the message without a traceback and exits with the exception's `exit_code`.
"""

import difflib
from collections.abc import Iterable


class JaxtrainError(Exception):
    """The base class of all errors that a user can cause or fix; `str(error)` is a complete sentence.

    Example:
      >>> import jaxtrain
      >>> try:
      ...     jaxtrain.models.create("resnet57", num_classes=10)
      ... except jaxtrain.JaxtrainError as error:
      ...     print(error)
      model: unknown model 'resnet57'; did you mean 'resnet56' or 'resnet50' or 'resnet'?
    """

    exit_code = 2


class ConfigError(JaxtrainError):
    """An error in a config, an override or an option of a component.

    Attributes:
      message: the text without the path.
      path: the path of the wrong setting, such as `optimizer.momentum`; empty if there is none.
    """

    def __init__(self, message: str, path: str = ""):
        super().__init__(message)
        self.message = message
        self.path = path

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message

    def under(self, prefix: str) -> "ConfigError":
        """Return the same error with `prefix` before its path: `momentum` becomes `optimizer.momentum`."""
        return ConfigError(self.message, f"{prefix}.{self.path}" if self.path else prefix)


class DataError(JaxtrainError):
    """A data set that is missing, damaged or incompatible with the config."""


class CheckpointError(JaxtrainError):
    """A checkpoint that is damaged, belongs to another model, or could not be written."""


class WeightsError(JaxtrainError):
    """A weights file that is damaged, belongs to another network, or could not be read or written.

    Attributes:
      missing: the model's variables that are not in the file.
      unexpected: names in the file that the model does not have.
      mismatched: variables whose array in the file has another shape or kind.
    """

    def __init__(
        self,
        message: str,
        missing: tuple[str, ...] = (),
        unexpected: tuple[str, ...] = (),
        mismatched: tuple[str, ...] = (),
    ):
        super().__init__(message)
        self.missing, self.unexpected, self.mismatched = missing, unexpected, mismatched


class WorkdirError(JaxtrainError):
    """A run directory that cannot be used: it holds another run, or is not readable or writable."""


class OutOfMemory(JaxtrainError):
    """A lack of memory on a device or the host; the message names settings that reduce memory use."""


class Diverged(JaxtrainError):
    """A loss or parameters that are no longer finite; `step` is the first step with such values."""

    exit_code = 3

    def __init__(self, message: str, step: int):
        super().__init__(message)
        self.step = step


class Interrupted(JaxtrainError):
    """A run that a signal ended after its state was saved; the exit code is the shell's 128 + signal."""

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.exit_code = 128 + signum


class PeerDied(JaxtrainError):
    """Another process of the run that has ended or cannot be reached."""

    exit_code = 4


MAX_NAMES = 40
"""The largest number of known names that a message lists in addition to its suggestions."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return a hint such as `; did you mean 'momentum'? Known: ...`, or only the known names if none is similar.

    With a similar name, the list of known names is omitted if it is longer than `MAX_NAMES`.

    Example:
      >>> did_you_mean("momentun", ["momentum", "nesterov"])
      "; did you mean 'momentum'? Known: momentum, nesterov"
    """
    names = sorted(choices)
    near = difflib.get_close_matches(word, names, n=3, cutoff=0.6)
    known = ", ".join(names) if names else "none"
    if near:
        meant = f"; did you mean {' or '.join(repr(n) for n in near)}?"
        return f"{meant} Known: {known}" if len(names) <= MAX_NAMES else meant
    return f". Known: {known}"


def with_article(noun: str) -> str:
    """Return the noun with its article, for messages: `an optimizer`."""
    return f"an {noun}" if noun[0] in "aeiouAEIOU" else f"a {noun}"
