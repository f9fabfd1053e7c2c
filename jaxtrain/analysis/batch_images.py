"""A batch before and after augmentation and preprocessing, computed by the code of training and evaluation."""

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


class BatchImages(NamedTuple):
    """Examples as loaded, and as the model's inputs.

    Attributes:
      before: images uint8[N, H, W, C], resized and padded as in the config.
      seen: model inputs f32[N, H, W, C], augmented (in training) and preprocessed.
      labels: labels int32[N], or f32[N, K], the weights of K classes, where examples are mixed.
    """

    before: np.ndarray
    seen: np.ndarray
    labels: np.ndarray


def training_batch(plan: Plan, normalization: Preprocessing, train: Split, step: int) -> BatchImages:
    """Return the batch of a training step, which is the same for any number of devices.

    For images that are decoded during training, `before` holds them as evaluation would decode them.

    Args:
      plan: the run's plan.
      normalization: the fitted preprocessing.
      train: the training split, already padded.
      step: number of the training step, from 0.
    """
    batch_size, examples = plan.clock.batch_size, plan.clock.examples
    if batch_size == examples:
        indices = np.arange(examples)
    else:
        order = example_order(plan.config.data.shuffle, plan.config.seed, examples)
        indices = order.at(range(step * batch_size, (step + 1) * batch_size))
    batches = train.place(plan.layout).training_batches(functools.partial(make_stream, plan))
    with contextlib.closing(batches):
        number = jax.device_put(np.int32(step), plan.layout.replicated)
        batch = jax.jit(make_loader(plan, normalization))(batches(step), make_order(plan).order(step), number)
    return BatchImages(_read_arrays(train.take(indices)).images, np.asarray(batch.images), np.asarray(batch.labels))


def _read_arrays(split: Split) -> ArraySource:
    return next(split.chunks(len(split)))


def evaluation_batch(normalization: Preprocessing, source: Split, examples: int) -> BatchImages:
    """Return `examples` evenly spaced examples of a split, as evaluation sees them; `source` is already padded."""
    arrays = _read_arrays(source.take(np.arange(examples) * len(source) // examples))
    seen = jax.jit(functools.partial(normalize, normalization=normalization))(arrays.images)
    return BatchImages(arrays.images, np.asarray(seen), arrays.labels)


def pixels(seen: np.ndarray, normalization: Preprocessing) -> np.ndarray:
    """Invert the preprocessing: model inputs f32[N, H, W, C] become pixels uint8[N, H, W, C]; NaN becomes black."""
    shown = np.asarray(jax.jit(normalization.inverse)(seen))
    return np.rint(255 * np.nan_to_num(shown)).astype(np.uint8)
