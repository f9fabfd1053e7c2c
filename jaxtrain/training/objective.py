"""What a training step minimizes: the mean loss of a batch, in one piece or in micro-batches, and the penalties."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxtrain.data.loader import Batch
from jaxtrain.distributed.sharded_step import ALONE, Sharing
from jaxtrain.models.outputs import Outputs, logits_of
from jaxtrain.optim.losses import Loss
from jaxtrain.optim.penalties import Penalty
from jaxtrain.random import numbered
from jaxtrain.training.accumulation import Parts, accumulated, deal, gathered, in_parts

Rngs = Mapping[str, jax.Array]


class Evaluation(NamedTuple):
    """What a batch of N examples gives in training.

    Attributes:
      value: f32[], the mean loss and the penalties.
      losses: f32[N].
      logits: f32[N, K].
      variables: of the model, after the batch.
    """

    value: jax.Array
    losses: jax.Array
    logits: jax.Array
    variables: Any


@dataclasses.dataclass(frozen=True)
class Objective:
    """The model in training, its loss and penalties.

    Attributes:
      model: the Linen module.
      loss: a value an example.
      penalties: functions of the parameters.
      micro_batch: examples that go through the model at a time, at the most; None for the whole batch.
      adds_gradients: whether the gradient of a batch in micro-batches is the sum of theirs, which goes through each of
        them once. Else it is that of `outputs`, which goes through them twice and rounds as `outputs` does: so has it
        what compares values of the objective.
    """

    model: nn.Module
    loss: Loss
    penalties: tuple[Penalty, ...] = ()
    micro_batch: int | None = None
    adds_gradients: bool = False

    def value_and_gradient(
        self,
        params: Any,
        variables: Any,
        batch: Batch,
        rngs: Rngs,
        scaled: Callable[[jax.Array], jax.Array],
        sharing: Sharing = ALONE,
    ) -> tuple[Evaluation, Any]:
        """What `batch` gives, and the gradient of `scaled(objective)`, which is linear, by the parameters."""
        if self._whole(batch.images) or not self.adds_gradients:

            def objective(params: Any) -> tuple[jax.Array, Evaluation]:
                found = self.evaluation(params, variables, batch, rngs, sharing)
                return scaled(found.value), found

            grads, found = jax.grad(sharing.not_kept(objective), has_aux=True)(params)
            return found, grads
        return self._added_up(params, variables, batch, rngs, scaled, sharing)

    def evaluation(self, params: Any, variables: Any, batch: Batch, rngs: Rngs, sharing: Sharing = ALONE) -> Evaluation:
        """What `batch` gives with these parameters."""
        outputs, variables = self.outputs(sharing.gathered(params), variables, batch.images, rngs)
        losses = self.losses(outputs, batch.labels)
        return Evaluation(self._value(losses, params), losses, logits_of(outputs), variables)

    def outputs(self, params: Any, variables: Any, images: jax.Array, rngs: Rngs) -> tuple[Any, Any]:
        """Logits f32[N, K] or `Outputs` of `images` f32[N, H, W, C], and the model's variables after them."""
        if self._whole(images):
            return self._forward(params, variables, images, rngs)
        return self._in_micro_batches(params, variables, images, rngs)

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
        parts = jax.tree.map(lambda x: deal(x, workers), batch)

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

    def _in_micro_batches(self, params: Any, variables: Any, images: jax.Array, rngs: Rngs) -> tuple[Any, Any]:
        """One micro-batch after another, each made again for its gradient, so that one at a time is in memory.

        Layers draw for each example what they draw when the batch goes through in one piece.

        They are of one size; the first examples go through once more where it does not come out even, and are dropped.
        """
        examples = images.shape[0]
        parts = in_parts(images, self._most)

        @jax.checkpoint
        def body(variables: Any, part: Parts) -> tuple[Any, Any]:
            with numbered(part.numbers):
                outputs, variables = self._forward(params, variables, part.batch, rngs)
            return variables, outputs

        variables, outputs = jax.lax.scan(body, variables, parts)
        return jax.tree.map(lambda x: gathered(x, examples), outputs), variables

    def _added_up(
        self,
        params: Any,
        variables: Any,
        batch: Batch,
        rngs: Rngs,
        scaled: Callable[[jax.Array], jax.Array],
        sharing: Sharing = ALONE,
    ) -> tuple[Evaluation, Any]:
        """The same, of one micro-batch after another."""
        examples = batch.images.shape[0]

        def gradient(variables: Any, part: Parts) -> tuple[Any, Any, Any]:
            def share(params: Any) -> tuple[jax.Array, Any]:
                with numbered(part.numbers):
                    outputs, after = self._forward(sharing.gathered(params), variables, part.batch.images, rngs)
                losses = self.losses(outputs, part.batch.labels)
                value = (losses * part.weights.astype(losses.dtype)).sum() / examples
                return scaled(value), ((losses, logits_of(outputs)), after)

            grads, (found, after) = jax.grad(sharing.not_kept(share), has_aux=True)(params)
            return sharing.divided(grads), found, after

        first = jax.tree.map(jnp.zeros_like, params)
        if self.penalties:
            first = jax.grad(lambda p: scaled(jnp.asarray(self.penalty(p))))(params)
        grads, (losses, logits), variables = accumulated(
            gradient, first, variables, in_parts(batch, self._most), examples
        )
        return Evaluation(self._value(losses, params), losses, logits, variables), grads

    def _value(self, losses: jax.Array, params: Any) -> jax.Array:
        return losses.mean() + self.penalty(params) if self.penalties else losses.mean()

    @property
    def _most(self) -> int:
        assert self.micro_batch is not None
        return self.micro_batch

    def _whole(self, images: jax.Array) -> bool:
        return self.micro_batch is None or self.micro_batch >= images.shape[0]
