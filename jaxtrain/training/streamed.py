"""What a run needs beside the rest where its examples are streamed: batches ahead, evaluation in chunks."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jax.sharding import Sharding

from jaxtrain.data.dataset import ArraySource
from jaxtrain.data.loader import Arrays, on_device
from jaxtrain.data.splits import pad_splits
from jaxtrain.data.streaming import StreamedSplit, TrainingStream
from jaxtrain.distributed.mesh import Layout
from jaxtrain.evaluation.evaluate import Evaluate
from jaxtrain.random import HOST_AUGMENT, example_stream
from jaxtrain.sharding import laid_out, placed_shares
from jaxtrain.training.orders import example_order
from jaxtrain.training.plan import Plan

EvaluateSplit = Callable[[Any, Any, Arrays | StreamedSplit], dict[str, float]]
"""An `Evaluate` that takes a split however it is held."""


def place_splits(plan: Plan, splits: Mapping[str, ArraySource | StreamedSplit]) -> dict[str, Arrays | StreamedSplit]:
    """Splits that are in memory, padded and on the devices; those that are streamed, to be padded."""
    held = {name: split for name, split in splits.items() if isinstance(split, ArraySource)}
    everywhere = plan.layout.replicated
    placed = {name: on_device(split, everywhere) for name, split in pad_splits(plan.splits, held).items()}
    margin = plan.config.data.pad
    return {name: s.padded(margin) if isinstance(s, StreamedSplit) else placed[name] for name, s in splits.items()}


def training_stream(plan: Plan, train: StreamedSplit) -> TrainingStream:
    """The batches of a run that streams, of which this process reads what its devices are given."""
    clock = plan.clock
    return TrainingStream(
        train,
        None if plan.splits.host is None else plan.splits.host.training,
        functools.partial(example_stream, plan.config.seed, HOST_AUGMENT),
        example_order(plan.config, clock.examples),
        clock.batch_size,
        plan.total_steps,
        plan.layout.batch,
        share_of_process(plan.layout.batch, clock.batch_size),
    )


def share_of_process(divided: Sharding, size: int) -> tuple[int, int]:
    """Which stretch of a batch lies on this process's devices: the `index`-th of `count` equal ones.

    `(0, 1)`, the whole batch, where it is none: where the devices of several processes lie in turns.
    """
    places = (slices[0].indices(size) for slices in divided.addressable_devices_indices_map((size,)).values() if slices)
    parts = {(start, stop) for start, stop, _ in places}
    first, last = min(start for start, _ in parts), max(stop for _, stop in parts)
    held = last - first
    if held != sum(stop - start for start, stop in parts) or size % held or first % held:
        return 0, 1
    return first // held, size // held


def evaluate_chunks(evaluate: Evaluate, batch_size: int, layout: Layout) -> EvaluateSplit:
    """Evaluates a streamed split in chunks of `batch_size`, each as `evaluate` does a whole split; others as before.

    The metrics are means over examples, and so is what comes of them, each chunk weighted by its examples. Of every
    chunk a process reads what its devices are given, and these exchange it.
    """
    size = -(-batch_size // layout.shares) * layout.shares
    index, processes = share_of_process(layout.batch, size)

    def gather(chunk: Arrays, count: int) -> Arrays:
        return Arrays(*(x[:count] for x in laid_out(chunk, layout.replicated)))

    gathered = layout.jit(gather, static_argnums=1, out_shardings=layout.replicated)

    def chunks(split: StreamedSplit) -> Iterator[Arrays]:
        if processes == 1:
            yield from (on_device(chunk, layout.replicated) for chunk in split.chunks(batch_size))
            return
        for number, part in enumerate(split.chunks(size, (index, processes), layout.shares)):
            arrays = Arrays(*placed_shares((part.images, part.labels), layout.batch, processes))
            yield gathered(arrays, min(size, len(split) - number * size))

    def whole(params: Any, variables: Any, split: Arrays | StreamedSplit) -> dict[str, float]:
        if not isinstance(split, StreamedSplit):
            return evaluate(params, variables, split)
        sums: dict[str, float] = {}
        seen = 0
        for chunk in chunks(split):
            metrics = evaluate(params, variables, chunk, seen)
            count = len(chunk.labels)
            seen += count
            sums = {name: sums.get(name, 0.0) + value * count for name, value in metrics.items()}
        if seen != len(split):
            raise AssertionError(f"evaluation saw {seen} examples of {len(split)}")
        return {name: value / seen for name, value in sums.items()}

    return whole
