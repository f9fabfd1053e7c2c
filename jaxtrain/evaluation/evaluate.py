"""Evaluation of a split that counts every example once: the last batch is padded, and the padding is masked."""

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
from jaxtrain.training.metrics import Pair, add_pairs, empty_pairs, means, metric_pairs


class Evaluate(Protocol):
    """A function `(params, variables, arrays on the device) -> {"loss": ..., "accuracy": ...}`, means over examples."""

    def __call__(self, params: Any, variables: Any, arrays: Arrays, first: int = 0) -> dict[str, float]:
        """Evaluate all examples of `arrays`.

        Args:
          params: the parameters.
          variables: the model's other variables.
          arrays: the examples, a split or a part of it.
          first: the index of the first example in its split; random draws depend on it.
        """


def even_batch_size(count: int, batch_size: int, devices: int) -> int:
    """Return the batch size with the least padding that needs as few batches as `batch_size` does.

    All batches have this size, a multiple of `devices`. Rounding up to that multiple may make it exceed `batch_size`.
    """
    batches = -(-count // batch_size)
    return -(-count // (batches * devices)) * devices


def make_evaluate(
    model: nn.Module | FoldedModel, loss: Loss, normalization: Preprocessing, batch_size: int, layout: Layout
) -> Evaluate:
    """Return a function that evaluates `model` in equal batches of about `batch_size` examples at most.

    Args:
      model: the Linen module, or the module with folded batch normalization.
      loss: the loss, `(logits, labels) -> f32[N]`.
      normalization: the preprocessing, fitted.
      batch_size: the number of examples in a batch, before it is evened out (`even_batch_size`).
      layout: the mesh of devices and the shardings on it.
    """

    def size_for(count: int) -> int:
        return even_batch_size(count, batch_size, layout.shares)

    def step(params: Any, variables: Any, arrays: Arrays, start: jax.Array, pairs: Any) -> Any:
        count = arrays.labels.shape[0]
        size = size_for(count)
        indices = start + jnp.arange(size, dtype=jnp.int32)
        images, labels = take(arrays, jnp.minimum(indices, count - 1), layout.batch)
        all_variables = {"params": layout.all_gather_params(params), **variables}
        logits: Any = model.apply(all_variables, normalize(images, normalization), train=False)
        return add_pairs(pairs, metric_pairs(loss(logits, labels), logits, labels, indices < count))

    replicated = layout.replicated
    in_shardings = (None, None, replicated, replicated, replicated)  # parameters keep the sharding of the state
    compiled: Any = layout.jit(step, donate_argnums=4, in_shardings=in_shardings, out_shardings=replicated)
    zero = layout.jit(empty_pairs, out_shardings=replicated)

    def evaluate(params: Any, variables: Any, arrays: Arrays, first: int = 0) -> dict[str, float]:
        del first
        count = arrays.labels.shape[0]
        pairs = zero()
        for start in range(0, count, size_for(count)):
            pairs = compiled(params, variables, arrays, jax.device_put(np.int32(start), replicated), pairs)
        return fetch_means(pairs, count)

    return evaluate


EvaluateSplit = Callable[[Any, Any, DeviceSplit], dict[str, float]]
"""A function `(params, variables, split) -> metrics`, for splits on the devices and for streamed splits."""


def evaluate_in_chunks(evaluate: Evaluate, batch_size: int) -> EvaluateSplit:
    """Return a function that evaluates a split chunk by chunk; a streamed split has chunks of `batch_size` examples.

    The metrics of each chunk are means over its examples. The result is their mean, weighted by the number of examples.
    """

    def evaluate_split(params: Any, variables: Any, split: DeviceSplit) -> dict[str, float]:
        parts: list[tuple[int, dict[str, float]]] = []
        total = 0
        for chunk in split.chunks(batch_size):
            parts.append((len(chunk.labels), evaluate(params, variables, chunk, total)))
            total += len(chunk.labels)
        if total != len(split):
            raise AssertionError(f"evaluation read {total} examples of {len(split)}")
        if len(parts) == 1:
            return parts[0][1]
        return {name: sum(count * metrics[name] for count, metrics in parts) / total for name in parts[0][1]}

    return evaluate_split


def fetch_means(pairs: Mapping[str, Pair], count: int) -> dict[str, float]:
    """Return the means on the host; raise `AssertionError` if the pairs did not count exactly `count` examples."""
    on_host = jax.device_get(pairs)
    total = int(on_host["loss"][1])
    if total != count:
        raise AssertionError(f"evaluation counted {total} examples of {count}")
    return means(on_host)
