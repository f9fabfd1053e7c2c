"""A batch before and after what is done to it, by the code that training and evaluation run."""

import contextlib
import functools
from typing import NamedTuple

import jax
import numpy as np

from jaxtrain.data.example_order import example_order
from jaxtrain.data.loader import normalize
from jaxtrain.data.preprocessing.base import Preprocessing
from jaxtrain.data.source import ArraySource, Split
from jaxtrain.training.inputs import make_loader, make_order, make_stream
from jaxtrain.training.plan import Plan


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


def training_view(plan: Plan, normalization: Preprocessing, train: Split, step: int) -> BatchView:
    """The batch of a training step; `train` is padded. The same for any number of devices, as draws are.

    Of images that are decoded on the way, what evaluation would see of them is shown as that before augmentation.
    """
    size, examples = plan.clock.batch_size, plan.clock.examples
    if size == examples:
        chosen = np.arange(examples)
    else:
        order = example_order(plan.config.data.shuffle, plan.config.seed, examples)
        chosen = order.at(range(step * size, (step + 1) * size))
    batches = train.place(plan.layout).training_batches(functools.partial(make_stream, plan))
    with contextlib.closing(batches):
        number = jax.device_put(np.int32(step), plan.layout.replicated)
        batch = jax.jit(make_loader(plan, normalization))(batches(step), make_order(plan).order(step), number)
    return BatchView(_in_memory(train.take(chosen)).images, np.asarray(batch.images), np.asarray(batch.labels))


def _in_memory(split: Split) -> ArraySource:
    return next(split.chunks(len(split)))


def evaluation_view(normalization: Preprocessing, source: Split, examples: int) -> BatchView:
    """Examples spread evenly over a split, as an evaluation sees them; `source` is padded."""
    chosen = _in_memory(source.take(np.arange(examples) * len(source) // examples))
    seen = jax.jit(functools.partial(normalize, normalization=normalization))(chosen.images)
    return BatchView(chosen.images, np.asarray(seen), chosen.labels)


def pixels(seen: np.ndarray, normalization: Preprocessing) -> np.ndarray:
    """What a model is given, `seen` f32[N, H, W, C], brought back to pixels uint8[N, H, W, C]; what is NaN is black."""
    shown = np.asarray(jax.jit(normalization.inverse)(seen))
    return np.rint(255 * np.nan_to_num(shown)).astype(np.uint8)
