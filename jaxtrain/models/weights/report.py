"""What became of every name of a file and of the model: a report where all is well, one error where it is not."""

import dataclasses
import difflib
from collections.abc import Mapping

from jaxtrain.errors import MOST_NAMES, WeightsError
from jaxtrain.models.weights.name_maps import Naming


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What `load_weights` did.

    Attributes:
      naming: whose names the file has.
      loaded: for each variable of the model that comes from the file, the name there.
      adapted: for those that were changed on the way, how.
      new: variables that are not from the file.
      left_out: names of the file that were not used: counters of batches, a head that was not wanted.
      notes: what names and shapes do not show, in sentences.
    """

    naming: Naming
    loaded: Mapping[str, str]
    adapted: Mapping[str, str]
    new: tuple[str, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{len(self.loaded)} variables from a file with the names of {self.naming}"]
        lines += [f"adapted: {path}: {what}" for path, what in self.adapted.items()]
        lines += [f"new: {_listed(self.new)}"] if self.new else []
        counters = [name for name in self.left_out if is_counter(name)]
        others = [name for name in self.left_out if not is_counter(name)]
        lines += [f"left out: {len(counters)} counters of batches, num_batches_tracked"] if counters else []
        lines += [f"left out: {_listed(others)}"] if others else []
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


@dataclasses.dataclass
class Problems:
    """What does not fit, collected so that all of it is told at once.

    Attributes:
      missing: variables of the model that the file lacks, with the names they would have there.
      unexpected: names of the file that the model lacks.
      mismatched: variables whose array is another, with a sentence.
      advice: what to do.
    """

    missing: dict[str, str] = dataclasses.field(default_factory=dict)
    unexpected: list[str] = dataclasses.field(default_factory=list)
    mismatched: dict[str, str] = dataclasses.field(default_factory=dict)
    advice: dict[str, None] = dataclasses.field(default_factory=dict)

    def raise_any(self, source: str, what: str) -> None:
        """Raises one error for all there are.

        Raises:
          WeightsError: if there are any.
        """
        if not (self.missing or self.unexpected or self.mismatched):
            return
        lines = [f"{source} does not fit the model; it was read as {what}"]
        if self.missing:
            told = [_told(path, name, self.unexpected) for path, name in _first(self.missing)]
            lines.append(f"{_count(self.missing, 'variable')} not in the file: {_joined(told, len(self.missing))}")
        if self.unexpected:
            lines.append(f"{_count(self.unexpected, 'name')} not the model's: {_listed(self.unexpected)}")
        if self.mismatched:
            told = [f"{path}: {text}" for path, text in _first(self.mismatched)]
            lines.append(
                f"{_count(self.mismatched, 'array')} unlike the model's: {_joined(told, len(self.mismatched))}"
            )
        raise WeightsError(
            "\n".join([*lines, *self.advice]), tuple(self.missing), tuple(self.unexpected), tuple(self.mismatched)
        )


def is_counter(name: str) -> bool:
    """Whether a name is that of torch's counter of batches, for which there is no use here."""
    return name.rpartition(".")[2] == "num_batches_tracked"


def _first(found: Mapping[str, str]) -> list[tuple[str, str]]:
    return list(found.items())[:MOST_NAMES]


def _told(path: str, name: str, unexpected: list[str]) -> str:
    near = difflib.get_close_matches(name, unexpected[:MOST_NAMES], n=1, cutoff=0.8)
    there = f" ({name}" if name != path else ""
    meant = f"is it {near[0]!r}?" if near else ""
    inside = "; ".join(text for text in (there.removeprefix(" ("), meant) if text)
    return f"{path} ({inside})" if inside else path


def _count(found: object, noun: str) -> str:
    number = len(found)  # type: ignore[arg-type]
    return f"{number} {noun}{' is' if number == 1 else 's are'}"


def _listed(names: list[str] | tuple[str, ...]) -> str:
    return _joined(list(names[:MOST_NAMES]), len(names))


def _joined(texts: list[str], number: int) -> str:
    more = f" and {number - len(texts)} more" if number > len(texts) else ""
    return ", ".join(texts) + more
