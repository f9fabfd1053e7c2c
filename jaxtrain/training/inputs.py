"""The inputs of the training step: the loader inside the step, the order of the examples, and streamed batches."""

import functools
from collections.abc import Mapping

from jaxtrain.data.device_stream import TrainingStream
from jaxtrain.data.epoch_shuffle import EpochShuffle, FullBatchOrder
from jaxtrain.data.example_order import epoch_permutation, example_order
from jaxtrain.data.loader import TrainingLoader
from jaxtrain.data.memory import DeviceSplit
from jaxtrain.data.preprocessing.base import Preprocessing
from jaxtrain.data.source import Split
from jaxtrain.data.splits import SplitPlan
from jaxtrain.data.streaming import StreamedSplit
from jaxtrain.distributed.mesh import Layout
from jaxtrain.random import AUGMENT, DECODE_TRANSFORM, example_generator, stream_key
from jaxtrain.training.augmentation import build_epoch_counter
from jaxtrain.training.plan import Plan


def make_loader(plan: Plan, normalization: Preprocessing) -> TrainingLoader:
    """Return the loader that makes the batch of a step inside `jax.jit`."""
    data, clock = plan.config.data, plan.clock
    return TrainingLoader(
        normalization=normalization,
        augment=plan.augment,
        key=functools.partial(stream_key, plan.config.seed, AUGMENT),
        batch_size=clock.batch_size,
        sharding=plan.layout.batch if plan.layout.mesh.size > 1 else None,
        switch=plan.switch,
        mix=plan.mix,
        normalize_first=data.normalize_first,
        count_epochs=build_epoch_counter(data, clock, plan.config.seed),
    )


def make_order(plan: Plan) -> EpochShuffle | FullBatchOrder:
    """Return the order in which the steps use the examples."""
    size, examples, replicated = plan.clock.batch_size, plan.clock.examples, plan.layout.replicated
    if plan.splits.streamed or size == examples:
        return FullBatchOrder(replicated)
    draw = epoch_permutation(plan.config.data.shuffle, plan.config.seed)
    return EpochShuffle(draw, examples, size, replicated)


def make_stream(plan: Plan, train: StreamedSplit) -> TrainingStream:
    """Return the batches of a run that streams `train`, a padded split; each process reads the part of its devices."""
    seed, clock = plan.config.seed, plan.clock
    return TrainingStream(
        train,
        None if plan.splits.decode is None else plan.splits.decode.training,
        functools.partial(example_generator, seed, DECODE_TRANSFORM),
        example_order(plan.config.data.shuffle, seed, clock.examples),
        clock.batch_size,
        plan.total_steps,
        plan.layout.batch,
    )


def place_splits(splits: SplitPlan, layout: Layout, loaded: Mapping[str, Split]) -> dict[str, DeviceSplit]:
    """Pad each split by `data.pad` pixels and place it on the devices."""
    return {name: split.pad(splits.config.pad).place(layout) for name, split in loaded.items()}
