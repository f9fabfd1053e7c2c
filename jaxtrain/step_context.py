"""What the code inside a training step must know of its batch beyond the arrays.

Linen modules hand each other arrays and nothing else, so the rest is one frozen `StepContext` in one context variable.
`training/step.py` sets it, in one line, for each step that it traces. Code that goes on with a part of the batch
narrows it: `training/accumulation.py` to the examples of a micro-batch, `augment/pipeline.py` to one example. Who reads
it: `random.example_keys` the indices, `nn/normalization.py` the scope of the statistics, `augment/geometry.py` how
often an example was seen.

Outside of a step every field has its default, which means: this is the whole batch.
"""

import dataclasses
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax


@dataclasses.dataclass(frozen=True)
class BatchNormScope:
    """The examples over which batch normalization takes its mean and variance.

    Attributes:
      groups: the number of equal, consecutive parts of the batch with statistics of their own; 1 for the whole batch.
      size: the number of examples in a part, instead of `groups`: ghost batches (Hoffer et al. 2017).
      axis_name: the mapped axis over whose devices the statistics are averaged; None for each device by itself.
    """

    groups: int = 1
    size: int | None = None
    axis_name: str | None = None

    def count_groups(self, examples: int) -> int:
        """Return the number of parts in a batch of `examples`; `ValueError` where they do not divide evenly."""
        if self.size is None:
            count, rest = self.groups, examples % self.groups
        else:
            count, rest = max(examples // self.size, 1), examples % self.size
        if rest:
            kind = f"groups of {self.size}" if self.size is not None else f"{self.groups} groups"
            raise ValueError(f"{examples} examples do not divide into {kind} for batch normalization")
        return count


WHOLE_BATCH = BatchNormScope()


class ExampleEpochs(NamedTuple):
    """How often training examples have been seen: of a batch along a first axis, or of one example.

    Attributes:
      key: a typed key of the example, the same in every epoch.
      epoch: int32, the number of epochs in which the example has been seen before.
    """

    key: jax.Array
    epoch: jax.Array


@dataclasses.dataclass(frozen=True)
class StepContext:
    """What a training step knows of the examples that are being processed.

    Attributes:
      indices: uint32[N], their indices in the batch of the step, over all devices; None for 0 to N - 1.
      batch_norm: the examples that share statistics.
      epochs: how often each has been seen; None where no augmentation asks for it.
    """

    indices: jax.Array | None = None
    batch_norm: BatchNormScope = WHOLE_BATCH
    epochs: ExampleEpochs | None = None


_context: ContextVar[StepContext] = ContextVar("step_context", default=StepContext())  # noqa: B039  # it is frozen


def current_context() -> StepContext:
    """Return the context of the step that is being traced."""
    return _context.get()


@contextmanager
def step_context(context: StepContext) -> Iterator[None]:
    """Make `context` the current one."""
    token = _context.set(context)
    try:
        yield
    finally:
        _context.reset(token)


def narrow_context(**changes: Any) -> AbstractContextManager[None]:
    """Make the current context, with `changes` of its fields, the current one."""
    return step_context(dataclasses.replace(current_context(), **changes))
