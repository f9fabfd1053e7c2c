"""Evaluation that counts every example once: the last batch is padded, the padding masked, the count checked."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxtrain.data.loader import normalize, take
from jaxtrain.data.memory import Arrays, DeviceSplit
from jaxtrain.data.preprocessing.base import Preprocessing
from jaxtrain.distributed.mesh import Layout
from jaxtrain.nn.folding import FoldedModel
from jaxtrain.optim.losses import Loss
from jaxtrain.training.metrics import Pair, add_pairs, empty_pairs, means, measure


class Evaluate(Protocol):
    """`(params, variables, split on the device) -> {"loss": ..., "accuracy": ...}`, means over its examples."""

    def __call__(self, params: Any, variables: Any, arrays: Arrays, first: int = 0) -> dict[str, float]:
        """`first` is the place of the first example in its split, where these are a part of it; draws depend on it."""


def even_batch(count: int, batch_size: int, devices: int) -> int:
    """The batch that leaves least to pad: a split in as few batches as `batch_size` allows, all of one size."""
    batches = -(-count // batch_size)
    return -(-count // (batches * devices)) * devices


def make_evaluate(
    model: nn.Module | FoldedModel, loss: Loss, normalization: Preprocessing, batch_size: int, layout: Layout
) -> Evaluate:
    """A function that evaluates `model` forward only, in equal batches of at most about `batch_size`."""

    def batch_of(count: int) -> int:
        return even_batch(count, batch_size, layout.shares)

    def step(params: Any, variables: Any, arrays: Arrays, start: jax.Array, pairs: Any) -> Any:
        count = arrays.labels.shape[0]
        size = batch_of(count)
        indices = start + jnp.arange(size, dtype=jnp.int32)
        images, labels = take(arrays, jnp.minimum(indices, count - 1), layout.batch)
        known = {"params": layout.all_gather_params(params), **variables}
        logits: Any = model.apply(known, normalize(images, normalization), train=False)
        return add_pairs(pairs, measure(loss(logits, labels), logits, labels, indices < count))

    everywhere = layout.replicated
    given = (None, None, everywhere, everywhere, everywhere)  # parameters lie as the state of the run does
    compiled: Any = layout.jit(step, donate_argnums=4, in_shardings=given, out_shardings=everywhere)
    zero = layout.jit(empty_pairs, out_shardings=everywhere)

    def evaluate(params: Any, variables: Any, arrays: Arrays, first: int = 0) -> dict[str, float]:
        del first
        count = arrays.labels.shape[0]
        pairs = zero()
        for start in range(0, count, batch_of(count)):
            pairs = compiled(params, variables, arrays, jax.device_put(np.int32(start), everywhere), pairs)
        return means_of_all(pairs, count)

    return evaluate


EvaluateSplit = Callable[[Any, Any, DeviceSplit], dict[str, float]]
"""`(params, variables, split) -> metrics`, whether the split lies on the devices or is streamed."""


def evaluate_in_chunks(evaluate: Evaluate, batch_size: int) -> EvaluateSplit:
    """Evaluate a split part by part as it comes, a streamed one in chunks of `batch_size`.

    The metrics are means over examples, and so is what comes of them, each chunk weighted by its examples.
    """

    def whole(params: Any, variables: Any, split: DeviceSplit) -> dict[str, float]:
        parts: list[tuple[int, dict[str, float]]] = []
        seen = 0
        for chunk in split.chunks(batch_size):
            parts.append((len(chunk.labels), evaluate(params, variables, chunk, seen)))
            seen += len(chunk.labels)
        if seen != len(split):
            raise AssertionError(f"evaluation saw {seen} examples of {len(split)}")
        if len(parts) == 1:
            return parts[0][1]
        return {name: sum(count * metrics[name] for count, metrics in parts) / seen for name in parts[0][1]}

    return whole


def means_of_all(pairs: Mapping[str, Pair], count: int) -> dict[str, float]:
    """The means on the host, held to have counted `count` examples."""
    found = jax.device_get(pairs)
    seen = int(found["loss"][1])
    if seen != count:
        raise AssertionError(f"evaluation counted {seen} examples of {count}")
    return means(found)
