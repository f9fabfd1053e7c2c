"""What a run needs beside the rest where its pictures are decoded on the host: batches ahead, evaluation in chunks."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from jaxtrain.data.dataset import ArraySource
from jaxtrain.data.loader import Arrays, on_device
from jaxtrain.data.splits import pad_splits
from jaxtrain.data.streaming import ExampleOrder, StreamedSplit, TrainingStream
from jaxtrain.training.evaluation import Evaluate
from jaxtrain.training.parallel import Layout
from jaxtrain.training.plan import Plan
from jaxtrain.training.random import HOST_AUGMENT, SHUFFLE, example_stream, host_stream

EvaluateSplit = Callable[[Any, Any, Arrays | StreamedSplit], dict[str, float]]
"""An `Evaluate` that takes a split however it is held."""


def place_splits(plan: Plan, splits: Mapping[str, ArraySource | StreamedSplit]) -> dict[str, Arrays | StreamedSplit]:
    """Splits that are in memory, padded and on the devices; those that are streamed, as they are."""
    held = {name: split for name, split in splits.items() if isinstance(split, ArraySource)}
    everywhere = plan.layout.replicated
    placed = {name: on_device(split, everywhere) for name, split in pad_splits(plan.splits, held).items()}
    return {name: split if isinstance(split, StreamedSplit) else placed[name] for name, split in splits.items()}


def training_stream(plan: Plan, train: StreamedSplit) -> TrainingStream:
    """The batches of a run whose plan says how pictures are decoded."""
    seed, clock = plan.config.seed, plan.clock
    assert plan.splits.host is not None
    return TrainingStream(
        train,
        plan.splits.host.training,
        functools.partial(example_stream, seed, HOST_AUGMENT),
        ExampleOrder(functools.partial(host_stream, seed, SHUFFLE), clock.examples),
        clock.batch_size,
        plan.total_steps,
        plan.layout.batch,
    )


def evaluate_chunks(evaluate: Evaluate, batch_size: int, layout: Layout) -> EvaluateSplit:
    """Evaluates a streamed split in chunks of `batch_size`, each as `evaluate` does a whole split; others as before.

    The metrics are means over examples, and so is what comes of them, each chunk weighted by its examples.
    """

    def whole(params: Any, variables: Any, split: Arrays | StreamedSplit) -> dict[str, float]:
        if not isinstance(split, StreamedSplit):
            return evaluate(params, variables, split)
        sums: dict[str, float] = {}
        seen = 0
        for chunk in split.chunks(batch_size):
            metrics = evaluate(params, variables, on_device(chunk, layout.replicated), seen)
            seen += len(chunk)
            sums = {name: sums.get(name, 0.0) + value * len(chunk) for name, value in metrics.items()}
        if seen != len(split):
            raise AssertionError(f"evaluation saw {seen} examples of {len(split)}")
        return {name: value / seen for name, value in sums.items()}

    return whole
