"""The stream of a training run, from files to batches on the device."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

from jaxtrain.data.device_stream import TrainingStream
from jaxtrain.data.example_order import PermutationOrder
from jaxtrain.data.streaming import StreamedSplit
from jaxtrain.distributed.mesh import make_layout
from jaxtrain.random import DECODE_TRANSFORM, SHUFFLE, example_generator, host_generator


def streaming(source: Any, views: Any, batch: int, batches: int, workers: int) -> Callable[[], None]:
    """Opens the stream of `source` over `views`, the host's augmentation or none, takes `batches`, and closes it."""
    split = StreamedSplit("bench", source, views, 1, workers)
    order = PermutationOrder(functools.partial(host_generator, 0, SHUFFLE), len(split))
    draws, divided = functools.partial(example_generator, 0, DECODE_TRANSFORM), make_layout(1, batch).batch

    def run() -> None:
        with contextlib.closing(TrainingStream(split, views, draws, order, batch, batches, divided)) as stream:
            for step in range(batches):
                stream(step).images.block_until_ready()

    return run
