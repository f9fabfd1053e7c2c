"""How many examples of each class there are in each split, and what is amiss with it."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from jaxtrain.data.source import Split

UNEVEN = 10
"""So many times the examples of the least frequent class are worth a warning."""
MOST_CLASSES = 40
"""That are listed; of more, the most and the least frequent."""
_MOST_NAMES = 5


@dataclasses.dataclass(frozen=True)
class ClassBalance:
    """`counts[split][label]` examples; `names[label]` of the classes."""

    names: tuple[str, ...]
    counts: Mapping[str, tuple[int, ...]]

    @property
    def totals(self) -> dict[str, int]:
        """Examples of each split."""
        return {split: sum(counts) for split, counts in self.counts.items()}

    @property
    def title(self) -> str:
        """What is listed."""
        if len(self.names) <= MOST_CLASSES:
            return "examples of each class"
        half = MOST_CLASSES // 2
        return f"the {half} most and {half} least frequent of {len(self.names):,} training classes"

    @property
    def listed(self) -> "ClassBalance":
        """Of at most `MOST_CLASSES` classes: all in their order, or the most and the least frequent, by frequency."""
        if len(self.names) <= MOST_CLASSES:
            return self
        order = np.argsort(-np.asarray(self.counts["train"]), kind="stable")
        half = MOST_CLASSES // 2
        kept = [*order[:half], *order[-half:]]
        counts = {split: tuple(numbers[i] for i in kept) for split, numbers in self.counts.items()}
        return ClassBalance(tuple(self.names[i] for i in kept), counts)

    def warnings(self) -> list[str]:
        """Sentences on what a training split should not be: without a class, or very uneven."""
        counts = self.counts["train"]
        found = []
        empty = [repr(name) for name, count in zip(self.names, counts, strict=True) if not count]
        if empty:
            more = f" and {len(empty) - _MOST_NAMES:,} more" if len(empty) > _MOST_NAMES else ""
            found.append(
                f"{len(empty):,} of {len(counts):,} classes have no example in the training split: "
                f"{', '.join(empty[:_MOST_NAMES])}{more}"
            )
        most = max(range(len(counts)), key=counts.__getitem__)
        least = min((i for i in range(len(counts)) if counts[i]), key=counts.__getitem__)
        if counts[most] > UNEVEN * counts[least]:
            found.append(
                f"the training split has {counts[most]:,} examples of {self.names[most]!r} and {counts[least]:,} of "
                f"{self.names[least]!r}: {counts[most] / counts[least]:.1f} times as many"
            )
        return found


def class_balance(names: tuple[str, ...], splits: Mapping[str, Split]) -> ClassBalance:
    """Counts the labels of `splits`, which hold "train"."""
    counts = {k: tuple(np.bincount(v.labels, minlength=len(names)).tolist()) for k, v in splits.items()}
    return ClassBalance(names, counts)
