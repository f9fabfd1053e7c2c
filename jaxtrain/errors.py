"""Everything a user can get wrong, as exceptions whose message says what, where and what to do.

The command line prints the message without a traceback and ends with the exception's `exit_code`.
"""

import difflib
from collections.abc import Iterable


class JaxtrainError(Exception):
    """Base of every error that a user can cause or cure; `str(error)` is a finished sentence."""

    exit_code = 2


class ConfigError(JaxtrainError):
    """A config, an override or a component's option is wrong. `path` names the place, such as `optimizer.momentum`."""

    def __init__(self, message: str, path: str = ""):
        super().__init__(message)
        self.message = message
        self.path = path

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message

    def under(self, prefix: str) -> "ConfigError":
        """The same error seen from a level above: `momentum` becomes `optimizer.momentum`."""
        return ConfigError(self.message, f"{prefix}.{self.path}" if self.path else prefix)


class DataError(JaxtrainError):
    """A data set is missing, damaged or does not fit the config."""


class CheckpointError(JaxtrainError):
    """A checkpoint is damaged, of another model, or could not be written."""


class WeightsError(JaxtrainError):
    """A file of weights is damaged, is of another network, or could not be read or written.

    Attributes:
      missing: variables of the model that the file lacks.
      unexpected: names of the file that the model lacks.
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
    """The run directory cannot be used: it holds another run, or is not readable or writable."""


class OutOfMemory(JaxtrainError):
    """The memory of a device or of the host does not suffice; the message says which settings need less."""


class Diverged(JaxtrainError):
    """The loss or the parameters are no longer finite; `step` is the first step at which they were not."""

    exit_code = 3

    def __init__(self, message: str, step: int):
        super().__init__(message)
        self.step = step


class Interrupted(JaxtrainError):
    """A signal ended the run after its state was saved; the exit code is the shell's 128 + signal."""

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.exit_code = 128 + signum


class PeerDied(JaxtrainError):
    """Another process of the run has ended, or cannot be reached."""

    exit_code = 4


MOST_NAMES = 40
"""That a message lists beside the one that was meant."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A hint such as `; did you mean 'momentum'? Known: ...`, or the known names alone when none is near.

    Where something is near, more names than `MOST_NAMES` are left out.
    """
    names = sorted(choices)
    near = difflib.get_close_matches(word, names, n=3, cutoff=0.6)
    known = ", ".join(names) if names else "none"
    if near:
        meant = f"; did you mean {' or '.join(repr(n) for n in near)}?"
        return f"{meant} Known: {known}" if len(names) <= MOST_NAMES else meant
    return f". Known: {known}"


def with_article(noun: str) -> str:
    """Return the noun with its article, for messages: `an optimizer`."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
