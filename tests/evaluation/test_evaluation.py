"""Evaluation counts every example once, for any size of split and batch, and equals numpy over the whole split."""

import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxtrain.data.memory import put_split
from jaxtrain.data.preprocessing.channels import Normalization
from jaxtrain.data.source import ArraySource
from jaxtrain.distributed.mesh import make_layout
from jaxtrain.evaluation.evaluate import make_evaluate
from jaxtrain.models.perceptron import linear
from jaxtrain.optim.losses import cross_entropy
from tests.levels import slow_except

CLASSES = 4
SHAPE = (2, 3, 1)
NORMALIZATION = Normalization((0.4,), (0.3,))
_rng = np.random.default_rng(0)
KERNEL, BIAS = _rng.normal(size=(6, CLASSES)).astype(np.float32), _rng.normal(size=CLASSES).astype(np.float32)
PARAMS = {"logits": {"kernel": KERNEL, "bias": BIAS}}


def split(count: int) -> ArraySource:
    rng = np.random.default_rng(count)
    return ArraySource(
        rng.integers(0, 256, (count, *SHAPE), np.uint8), rng.integers(0, CLASSES, count).astype(np.int32)
    )


def numpy_metrics(source: ArraySource) -> dict[str, float]:
    x = (source.images.reshape(len(source), -1) / 255 - 0.4) / 0.3
    logits = x @ KERNEL.astype(np.float64) + BIAS
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(source)), source.labels]
    return {"loss": losses.mean(), "accuracy": (logits.argmax(axis=1) == source.labels).mean()}


@functools.cache
def evaluator(batch_size: int, devices: int) -> tuple[Any, Any]:
    layout = make_layout(devices, devices)
    evaluate = make_evaluate(linear(num_classes=CLASSES), cross_entropy(), NORMALIZATION, batch_size, layout)
    return evaluate, layout.replicated


SIZES = list(itertools.product((1, 7, 16, 37), (1, 5, 16, 500)))


# Each pair of split size and batch size compiles its own program, so we try few by default.
@pytest.mark.parametrize("sizes", slow_except(SIZES, (1, 500), (7, 5), (16, 16), (37, 16)), ids=str)
def test_evaluation_equals_numpy_over_the_whole_split(sizes: tuple[int, int]):
    count, batch_size = sizes
    evaluate, everywhere = evaluator(batch_size, 1)
    metrics = evaluate(jax.device_put(PARAMS, everywhere), {}, put_split(split(count), everywhere))
    assert metrics == pytest.approx(numpy_metrics(split(count)), rel=1e-5)


@pytest.mark.parametrize(
    ("count", "batch_size"),
    [(37, 16), (3, 5), *(pytest.param(*x, marks=pytest.mark.slow) for x in ((37, 500), (40, 1)))],
)
def test_evaluation_on_eight_devices_equals_numpy(count: int, batch_size: int):
    evaluate, everywhere = evaluator(batch_size, 8)
    metrics = evaluate(jax.device_put(PARAMS, everywhere), {}, put_split(split(count), everywhere))
    assert metrics == pytest.approx(numpy_metrics(split(count)), rel=1e-5)


def power(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return a different power of two for each example; the sum, exact in float32, tells which were counted."""
    return jnp.exp2(labels.astype(logits.dtype))


@pytest.mark.parametrize(("count", "batch_size", "devices"), [(19, 6, 1), (20, 7, 8), (20, 20, 1), (9, 1, 1)])
def test_evaluation_counts_every_example_once(count: int, batch_size: int, devices: int):
    layout = make_layout(devices, devices)
    source = ArraySource(split(count).images, np.arange(count, dtype=np.int32))
    evaluate = make_evaluate(linear(num_classes=CLASSES), power, NORMALIZATION, batch_size, layout)
    params = jax.device_put(PARAMS, layout.replicated)
    arrays = put_split(source, layout.replicated)
    for _ in range(2):  # one evaluation does not affect the next
        assert evaluate(params, {}, arrays)["loss"] * count == pytest.approx(2**count - 1, abs=0.5)


def test_evaluation_batches_have_equal_sizes_up_to_the_limit():
    """37 examples in batches of at most 16 are three batches of 13; the model records the shapes while it is traced."""
    sizes = []

    class ShapeRecorder(nn.Module):
        @nn.compact
        def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
            assert not train
            sizes.append(images.shape)
            return nn.Dense(CLASSES)(images.reshape(images.shape[0], -1))

    params = {"Dense_0": PARAMS["logits"]}
    layout = make_layout(1, 1)
    evaluate = make_evaluate(ShapeRecorder(), cross_entropy(), NORMALIZATION, 16, layout)
    arrays = put_split(split(37), layout.replicated)
    first, second = (evaluate(params, {}, arrays) for _ in range(2))
    assert sizes == [(math.ceil(37 / 3), *SHAPE)]  # traced once
    assert first == second


def test_evaluation_raises_if_the_example_count_is_wrong(monkeypatch: pytest.MonkeyPatch):
    from jaxtrain.evaluation import evaluate as evaluation

    def ignore_mask(losses: Any, logits: Any, labels: Any, mask: Any) -> Any:
        return evaluation_measure(losses, logits, labels)

    evaluation_measure = evaluation.metric_pairs
    monkeypatch.setattr(evaluation, "metric_pairs", ignore_mask)
    layout = make_layout(1, 1)
    evaluate = make_evaluate(linear(num_classes=CLASSES), cross_entropy(), NORMALIZATION, 4, layout)
    with pytest.raises(AssertionError, match="counted 8 examples of 7"):
        evaluate(PARAMS, {}, put_split(split(7), layout.replicated))
