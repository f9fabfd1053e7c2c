"""The context of a training step: information about the batch that is not in its arrays.

Linen modules pass only arrays to each other, so the rest is one frozen `StepContext` in one context variable.
`training/step.py` sets it in one line for each step that it traces. Code that processes a part of the batch narrows it:
`training/accumulation.py` to a micro-batch, `augment/pipeline.py` to one example.

The readers are `random.example_keys` (indices), `nn/normalization.py` (scope of the statistics) and
`augment/geometry.py` (number of epochs in which an example was seen).

Outside of a step every field has its default, which means that the arrays are the whole batch.
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
      size: the number of examples in a part, instead of `groups`, for ghost batches (Hoffer et al. 2017).
      axis_name: the mapped axis over which the statistics are averaged; None for separate statistics on each device.
    """

    groups: int = 1
    size: int | None = None
    axis_name: str | None = None

    def count_groups(self, examples: int) -> int:
        """Return the number of parts in a batch of `examples`; raise `ValueError` if they do not divide evenly."""
        if self.size is None:
            count, rest = self.groups, examples % self.groups
        else:
            count, rest = max(examples // self.size, 1), examples % self.size
        if rest:
            kind = f"groups of {self.size}" if self.size is not None else f"{self.groups} groups"
            raise ValueError(f"{examples} examples cannot be divided evenly into {kind} for batch normalization")
        return count


WHOLE_BATCH = BatchNormScope()


class ExampleEpochs(NamedTuple):
    """The number of earlier epochs of training examples: for a batch along a first axis, or for one example.

    Attributes:
      key: a typed key of each example, the same in every epoch.
      epoch: int32, the number of epochs in which the example has been seen before.
    """

    key: jax.Array
    epoch: jax.Array


@dataclasses.dataclass(frozen=True)
class StepContext:
    """Information about the examples that a training step is processing.

    Attributes:
      indices: the examples' indices uint32[N] in the batch of the step, over all devices; None for 0 to N - 1.
      batch_norm: the examples that share statistics.
      epochs: the number of epochs in which each example was seen; None if no augmentation requires it.
    """

    indices: jax.Array | None = None
    batch_norm: BatchNormScope = WHOLE_BATCH
    epochs: ExampleEpochs | None = None


_context: ContextVar[StepContext] = ContextVar("step_context", default=StepContext())  # noqa: B039  # it is frozen


def current_context() -> StepContext:
    """Return the context of the step that is being traced, or the default outside of a step."""
    return _context.get()


@contextmanager
def step_context(context: StepContext) -> Iterator[None]:
    """Set `context` as the current context inside a `with` block."""
    token = _context.set(context)
    try:
        yield
    finally:
        _context.reset(token)


def narrow_context(**changes: Any) -> AbstractContextManager[None]:
    """Set the current context, with some fields changed, inside a `with` block."""
    return step_context(dataclasses.replace(current_context(), **changes))
