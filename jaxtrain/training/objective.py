"""What a training step minimizes: the mean loss of a batch, in one piece or in micro-batches, and the penalties."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxtrain.data.loader import Batch
from jaxtrain.example_keys import numbered
from jaxtrain.models.outputs import Outputs, logits_of
from jaxtrain.optim.losses import Loss
from jaxtrain.optim.penalties import Penalty

Rngs = Mapping[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Objective:
    """The model in training, its loss and penalties.

    Attributes:
      model: the Linen module.
      loss: a value an example.
      penalties: functions of the parameters.
      micro_batch: examples that go through the model at a time, at the most; None for the whole batch.
    """

    model: nn.Module
    loss: Loss
    penalties: tuple[Penalty, ...] = ()
    micro_batch: int | None = None

    def outputs(self, params: Any, variables: Any, images: jax.Array, rngs: Rngs) -> tuple[Any, Any]:
        """Logits f32[N, K] or `Outputs` of `images` f32[N, H, W, C], and the model's variables after them."""
        if self.micro_batch is None or self.micro_batch >= images.shape[0]:
            return self._forward(params, variables, images, rngs)
        return self._in_micro_batches(params, variables, images, rngs, self.micro_batch)

    def losses(self, outputs: Any, labels: jax.Array) -> jax.Array:
        """f32[N], the loss of each example, with its share of the loss of auxiliary heads where there are some."""
        losses = self.loss(logits_of(outputs), labels)
        if isinstance(outputs, Outputs):
            losses += outputs.auxiliary_weight * sum(self.loss(logits, labels) for logits in outputs.auxiliary)
        return losses

    def penalty(self, params: Any) -> jax.Array | float:
        """f32[], the sum of the penalties; 0 where there are none."""
        return sum((penalty(params) for penalty in self.penalties), start=0.0)

    def worker_values(self, stacked: Any, variables: Any, batch: Batch, rngs: Rngs) -> jax.Array:
        """f32[W], the objective of each of W workers: its own parameters on its own W-th part of the batch."""
        workers = jax.tree.leaves(stacked)[0].shape[0]
        if batch.labels.shape[0] % workers:
            raise ValueError(
                f"a batch of {batch.labels.shape[0]} examples does not divide among {workers} workers; "
                "choose a multiple of them"
            )
        parts = jax.tree.map(lambda x: _deal(x, workers), batch)

        def value(worker: jax.Array, params: Any, part: Batch) -> jax.Array:
            own = {name: jax.random.fold_in(key, worker) for name, key in rngs.items()}
            outputs, _ = self.outputs(params, variables, part.images, own)
            return self.losses(outputs, part.labels).mean() + self.penalty(params)

        return jax.vmap(value)(jnp.arange(workers, dtype=jnp.uint32), stacked, parts)

    def _forward(self, params: Any, variables: Any, images: jax.Array, rngs: Rngs) -> tuple[Any, Any]:
        outputs, variables = self.model.apply(
            {"params": params, **variables}, images, train=True, rngs=dict(rngs), mutable=tuple(variables)
        )
        return outputs, variables

    def _in_micro_batches(
        self, params: Any, variables: Any, images: jax.Array, rngs: Rngs, most: int
    ) -> tuple[Any, Any]:
        """One micro-batch after another, each made again for its gradient, so that one at a time is in memory.

        Layers draw for each example what they draw when the batch goes through in one piece.

        They are of one size; the first examples go through once more where it does not come out even, and are dropped.
        """
        examples = images.shape[0]
        count = math.ceil(examples / most)
        spare = count * math.ceil(examples / count) - examples
        parts = _deal(jnp.concatenate([images, images[:spare]]) if spare else images, count)

        numbers = _deal(jnp.arange(examples + spare, dtype=jnp.uint32) % np.uint32(examples), count)

        @jax.checkpoint
        def body(variables: Any, part: tuple[jax.Array, jax.Array]) -> tuple[Any, Any]:
            own, images = part
            with numbered(own):
                outputs, variables = self._forward(params, variables, images, rngs)
            return variables, outputs

        variables, outputs = jax.lax.scan(body, variables, (numbers, parts))
        return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:])[:examples], outputs), variables


def _deal(x: jax.Array, parts: int) -> jax.Array:
    """`[N, ...]` as `[parts, N / parts, ...]`, dealt like cards: a batch cut over devices stays where it is."""
    return x.reshape(x.shape[0] // parts, parts, *x.shape[1:]).swapaxes(0, 1)
