"""The number of examples of each class in each split, and warnings about empty and rare classes."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from jaxtrain.data.source import Split

MAX_RATIO = 10
"""The ratio of the most to the least frequent class above which a warning is given."""
MAX_CLASSES = 40
"""The largest number of classes that are listed; of more, the most and the least frequent are."""
_MAX_NAMES = 5


@dataclasses.dataclass(frozen=True)
class ClassBalance:
    """The numbers of examples `counts[split][label]`, and the class names `names[label]`."""

    names: tuple[str, ...]
    counts: Mapping[str, tuple[int, ...]]

    @property
    def totals(self) -> dict[str, int]:
        """The number of examples of each split."""
        return {split: sum(counts) for split, counts in self.counts.items()}

    @property
    def title(self) -> str:
        """The title of a chart or table of `listed`."""
        if len(self.names) <= MAX_CLASSES:
            return "examples of each class"
        half = MAX_CLASSES // 2
        return f"the {half} most and {half} least frequent of {len(self.names):,} training classes"

    @property
    def listed(self) -> "ClassBalance":
        """The balance of at most `MAX_CLASSES` classes.

        These are all classes in their order; of more, the most and the least frequent, sorted by frequency.
        """
        if len(self.names) <= MAX_CLASSES:
            return self
        order = np.argsort(-np.asarray(self.counts["train"]), kind="stable")
        half = MAX_CLASSES // 2
        selected = [*order[:half], *order[-half:]]
        counts = {split: tuple(numbers[i] for i in selected) for split, numbers in self.counts.items()}
        return ClassBalance(tuple(self.names[i] for i in selected), counts)

    def warnings(self) -> list[str]:
        """Return warnings about the training split: classes without examples, and very uneven classes."""
        counts = self.counts["train"]
        messages = []
        empty = [repr(name) for name, count in zip(self.names, counts, strict=True) if not count]
        if empty:
            more = f" and {len(empty) - _MAX_NAMES:,} more" if len(empty) > _MAX_NAMES else ""
            messages.append(
                f"{len(empty):,} of {len(counts):,} classes have no example in the training split: "
                f"{', '.join(empty[:_MAX_NAMES])}{more}"
            )
        most = max(range(len(counts)), key=counts.__getitem__)
        least = min((i for i in range(len(counts)) if counts[i]), key=counts.__getitem__)
        if counts[most] > MAX_RATIO * counts[least]:
            messages.append(
                f"the training split has {counts[most]:,} examples of {self.names[most]!r} and {counts[least]:,} of "
                f"{self.names[least]!r}: {counts[most] / counts[least]:.1f} times as many"
            )
        return messages


def class_balance(names: tuple[str, ...], splits: Mapping[str, Split]) -> ClassBalance:
    """Count the labels of each split; `splits` must include "train"."""
    counts = {k: tuple(np.bincount(v.labels, minlength=len(names)).tolist()) for k, v in splits.items()}
    return ClassBalance(names, counts)
