"""Over which examples batch normalization takes its mean and variance: said around the call of a model.

A model does not know how its batch is divided, and its modules pass only arrays on; so whoever divides the batch says
it here, as `example_keys.numbered` says which examples these are.
"""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


@dataclasses.dataclass(frozen=True)
class Over:
    """The examples that share statistics.

    Attributes:
      groups: into so many equal parts the batch is divided, one after the other; 1 for all of it.
      size: examples in a part, in the place of `groups`: ghost batches (Hoffer et al. 2017).
      axis_name: of `pmap`, over whose devices they are joined.
    """

    groups: int = 1
    size: int | None = None
    axis_name: str | None = None

    def parts(self, examples: int) -> int:
        """How many parts `examples` examples are; `ValueError` where they do not come out even."""
        if self.size is None:
            count, rest = self.groups, examples % self.groups
        else:
            count, rest = max(examples // self.size, 1), examples % self.size
        if rest:
            kind = f"groups of {self.size}" if self.size is not None else f"{self.groups} groups"
            raise ValueError(f"{examples} examples do not divide into {kind} for batch normalization")
        return count


_over: ContextVar[Over | None] = ContextVar("over", default=None)
_EVERYTHING = Over()


@contextmanager
def statistics_over(over: Over) -> Iterator[None]:
    """Models that are called within, in training, normalize by the statistics of these examples."""
    token = _over.set(over)
    try:
        yield
    finally:
        _over.reset(token)


def examples_shared() -> Over:
    """What was said last; else the whole batch."""
    return _over.get() or _EVERYTHING
