"""A batch before and after what is done to it, by the code that training and evaluation run."""

import contextlib
import functools
from typing import NamedTuple

import jax
import numpy as np

from jaxtrain.augment.pipeline import pipeline
from jaxtrain.data.dataset import ArraySource
from jaxtrain.data.loader import Arrays, Batch, Order, normalize, on_device, training_loader
from jaxtrain.data.preprocessing.base import Preprocessing
from jaxtrain.data.streaming import StreamedSplit
from jaxtrain.random import AUGMENT, stream
from jaxtrain.run.compiled_run import make_feed
from jaxtrain.training.orders import example_order
from jaxtrain.training.plan import Plan
from jaxtrain.training.streamed import training_stream


class BatchView(NamedTuple):
    """Examples as they are loaded, and as a model is given them.

    Attributes:
      before: uint8[N, H, W, C], resized and padded as the config says.
      seen: f32[N, H, W, C], augmented (in training) and preprocessed.
      labels: int32[N], or f32[N, K], the weights of K classes, where examples are mixed.
    """

    before: np.ndarray
    seen: np.ndarray
    labels: np.ndarray


def training_view(plan: Plan, normalization: Preprocessing, train: ArraySource | StreamedSplit, step: int) -> BatchView:
    """The batch of a training step; `train` is padded. The same for any number of devices, as draws are.

    Of pictures that are streamed, what evaluation would see of them is shown as that before augmentation.
    """
    if isinstance(train, StreamedSplit):
        return _streamed_view(plan, normalization, train, step)
    load, shuffle = make_feed(plan, normalization)
    untouched = training_loader(
        _AsTheyAre(),
        pipeline([]),
        functools.partial(stream, plan.config.seed, AUGMENT),
        plan.clock.batch_size,
        plan.layout.batch,
    )

    def both(arrays: Arrays, order: Order, step: jax.Array) -> tuple[Batch, Batch]:
        return untouched(arrays, order, step), load(arrays, order, step)

    everywhere = plan.layout.replicated
    arguments = (on_device(train, everywhere), shuffle.order(step), jax.device_put(np.int32(step), everywhere))
    before, batch = jax.jit(both)(*arguments)
    return BatchView(np.asarray(before.images), np.asarray(batch.images), np.asarray(batch.labels))


def _streamed_view(plan: Plan, normalization: Preprocessing, train: StreamedSplit, step: int) -> BatchView:
    load, order = make_feed(plan, normalization)
    size = plan.clock.batch_size
    chosen = example_order(plan.config, plan.clock.examples).at(range(step * size, (step + 1) * size))
    before = _in_memory(train.take(chosen))
    with contextlib.closing(training_stream(plan, train)) as batches:
        arrays = batches(step)
    number = jax.device_put(np.int32(step), plan.layout.replicated)
    batch = jax.jit(load)(arrays, order.order(step), number)
    return BatchView(before.images, np.asarray(batch.images), np.asarray(batch.labels))


def _in_memory(source: ArraySource | StreamedSplit) -> ArraySource:
    return source if isinstance(source, ArraySource) else next(source.chunks(len(source)))


def evaluation_view(normalization: Preprocessing, source: ArraySource | StreamedSplit, examples: int) -> BatchView:
    """Examples spread evenly over a split, as an evaluation sees them; `source` is padded."""
    chosen = _in_memory(source.take(np.arange(examples) * len(source) // examples))
    seen = jax.jit(functools.partial(normalize, normalization=normalization))(chosen.images)
    return BatchView(chosen.images, np.asarray(seen), chosen.labels)


def pixels(seen: np.ndarray, normalization: Preprocessing) -> np.ndarray:
    """What a model is given, `seen` f32[N, H, W, C], brought back to pixels uint8[N, H, W, C]; what is NaN is black."""
    shown = np.asarray(jax.jit(normalization.inverse)(seen))
    return np.rint(255 * np.nan_to_num(shown)).astype(np.uint8)


class _AsTheyAre:
    """The preprocessing that does nothing."""

    def apply(self, images: jax.Array) -> jax.Array:
        """The same images, uint8."""
        return images

    def inverse(self, values: jax.Array) -> jax.Array:
        """The same again."""
        return values
