"""The report of loaded weights, and the error that lists all differences between a file and a model."""

import dataclasses
import difflib
from collections.abc import Collection, Mapping

from jaxtrain.errors import MAX_NAMES, WeightsError
from jaxtrain.models.weights.name_maps import Naming


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """The report of `load_weights`.

    Attributes:
      naming: library whose names the file has.
      loaded: names in the file by path, for each variable of the model that the file provides.
      adapted: descriptions of the resized variables by path.
      new: paths of the variables that do not come from the file.
      left_out: names in the file that were not used, such as batch counters and an unwanted head.
      notes: sentences about differences that names and shapes do not show.
    """

    naming: Naming
    loaded: Mapping[str, str]
    adapted: Mapping[str, str]
    new: tuple[str, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{len(self.loaded)} variables loaded, with the names of {self.naming}"]
        lines += [f"adapted: {path}: {what}" for path, what in self.adapted.items()]
        lines += [f"new: {_list_names(self.new)}"] if self.new else []
        counters = [name for name in self.left_out if is_counter(name)]
        others = [name for name in self.left_out if not is_counter(name)]
        lines += [f"not used: {len(counters)} of torch's batch counters (num_batches_tracked)"] if counters else []
        lines += [f"not used: {_list_names(others)}"] if others else []
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


@dataclasses.dataclass
class Problems:
    """All differences between a file and a model, collected for one error.

    Attributes:
      missing: expected names in the file by path, for variables of the model that the file lacks.
      unexpected: names in the file that the model lacks.
      mismatched: sentences by path, for variables whose array has another shape, dtype or values that are not finite.
      advice: sentences on what to do, in order, as keys.
    """

    missing: dict[str, str] = dataclasses.field(default_factory=dict)
    unexpected: list[str] = dataclasses.field(default_factory=list)
    mismatched: dict[str, str] = dataclasses.field(default_factory=dict)
    advice: dict[str, None] = dataclasses.field(default_factory=dict)

    def raise_any(self, source: str, what: str) -> None:
        """Raise one error that lists all differences, if there are any.

        Args:
          source: title of the file, for the message.
          what: description of the file, for the message.

        Raises:
          WeightsError: if there are differences.
        """
        if not (self.missing or self.unexpected or self.mismatched):
            return
        lines = [f"{source} does not fit the model; it was read as {what}"]
        if self.missing:
            texts = [_describe_missing(path, name, self.unexpected) for path, name in _first_items(self.missing)]
            lines.append(f"{_count(self.missing, 'variable')} not in the file: {_join(texts, len(self.missing))}")
        if self.unexpected:
            lines.append(f"{_count(self.unexpected, 'name')} not in the model: {_list_names(self.unexpected)}")
        if self.mismatched:
            texts = [f"{path}: {text}" for path, text in _first_items(self.mismatched)]
            lines.append(f"{_count(self.mismatched, 'array')} unusable: {_join(texts, len(self.mismatched))}")
        raise WeightsError(
            "\n".join([*lines, *self.advice]), tuple(self.missing), tuple(self.unexpected), tuple(self.mismatched)
        )


def is_counter(name: str) -> bool:
    """Return whether a name is that of torch's batch counter, which this package does not use."""
    return name.rpartition(".")[2] == "num_batches_tracked"


def _first_items(mapping: Mapping[str, str]) -> list[tuple[str, str]]:
    return list(mapping.items())[:MAX_NAMES]


def _describe_missing(path: str, name: str, unexpected: list[str]) -> str:
    near = difflib.get_close_matches(name, unexpected[:MAX_NAMES], n=1, cutoff=0.8)
    expected = name if name != path else ""
    suggestion = f"is it {near[0]!r}?" if near else ""
    details = "; ".join(text for text in (expected, suggestion) if text)
    return f"{path} ({details})" if details else path


def _count(names: Collection[str], noun: str) -> str:
    number = len(names)
    return f"{number} {noun}{' is' if number == 1 else 's are'}"


def _list_names(names: list[str] | tuple[str, ...]) -> str:
    return _join(list(names[:MAX_NAMES]), len(names))


def _join(texts: list[str], number: int) -> str:
    more = f" and {number - len(texts)} more" if number > len(texts) else ""
    return ", ".join(texts) + more
