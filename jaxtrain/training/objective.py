"""What a training step minimizes: the mean loss of a batch, whole or in micro-batches, and the penalties."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxtrain.data.loader import Batch
from jaxtrain.distributed.sharded_step import ONE_DEVICE, ShardedStep
from jaxtrain.models.outputs import Outputs, logits_of
from jaxtrain.optim.losses import Loss
from jaxtrain.optim.penalties import Penalty
from jaxtrain.step_context import narrow_context
from jaxtrain.training.accumulation import MicroBatches, accumulate, collect, deal, split_batch

Rngs = Mapping[str, jax.Array]


class Evaluation(NamedTuple):
    """What a batch of N examples gives in training.

    Attributes:
      value: f32[], the mean loss and the penalties.
      losses: f32[N].
      logits: f32[N, K].
      variables: the model's variables after the batch.
    """

    value: jax.Array
    losses: jax.Array
    logits: jax.Array
    variables: Any


@dataclasses.dataclass(frozen=True)
class Objective:
    """The model in training, its loss and penalties.

    Attributes:
      model: the Linen module, `(images, *, train) -> logits`.
      loss: the loss, `(logits, labels) -> f32[N]`.
      penalties: functions of the parameters.
      micro_batch: the largest number of examples that go through the model at a time; None for the whole batch.
      adds_gradients: whether the gradient of a batch in micro-batches is the sum of theirs, which goes through each of
        them once. Else it is the gradient of `outputs`, which goes through them twice and rounds as `outputs` does:
        what compares values of the objective needs that.
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
        scale: Callable[[jax.Array], jax.Array] = lambda value: value,
        devices: ShardedStep = ONE_DEVICE,
    ) -> tuple[Evaluation, Any]:
        """Evaluate the objective on `batch`, with the gradient of `scale(objective)`, which is linear.

        Args:
          params: the parameters.
          variables: the model's other variables.
          batch: the examples.
          rngs: a key for each random stream of the model.
          scale: what is done to the value before it is differentiated.
          devices: how devices share the step.
        """
        if not self._is_whole(batch.images) and self.adds_gradients:
            return self._add_up(params, variables, batch, rngs, scale, devices)

        def objective(params: Any) -> tuple[jax.Array, Evaluation]:
            found = self.evaluate(params, variables, batch, rngs, devices)
            return scale(found.value), found

        grads, found = jax.grad(devices.regather_in_backward(objective), has_aux=True)(params)
        return found, grads

    def evaluate(
        self, params: Any, variables: Any, batch: Batch, rngs: Rngs, devices: ShardedStep = ONE_DEVICE
    ) -> Evaluation:
        """Evaluate the objective on `batch` with these parameters."""
        outputs, variables = self.outputs(devices.all_gather_params(params), variables, batch.images, rngs)
        losses = self.losses(outputs, batch.labels)
        logits = outputs.logits if isinstance(outputs, Outputs) else outputs
        return Evaluation(self._value(losses, params), losses, logits, variables)

    def outputs(self, params: Any, variables: Any, images: jax.Array, rngs: Rngs) -> tuple[Any, Any]:
        """Return logits f32[N, K] or `Outputs` of `images` f32[N, H, W, C], and the model's variables after them."""
        if self._is_whole(images):
            return self._forward(params, variables, images, rngs)
        return self._outputs_in_micro_batches(params, variables, images, rngs)

    def losses(self, outputs: Any, labels: jax.Array) -> jax.Array:
        """Return f32[N], the loss of each example, with its share of the loss of auxiliary heads."""
        if not isinstance(outputs, Outputs):
            return self.loss(outputs, labels)
        auxiliary = sum(self.loss(logits, labels) for logits in outputs.auxiliary)
        return self.loss(outputs.logits, labels) + outputs.auxiliary_weight * auxiliary

    def penalty(self, params: Any) -> jax.Array | float:
        """Return f32[], the sum of the penalties; 0 where there are none."""
        return sum((penalty(params) for penalty in self.penalties), start=0.0)

    def worker_values(self, stacked: Any, variables: Any, batch: Batch, rngs: Rngs) -> jax.Array:
        """Return f32[W], the objective of each of W workers: its own parameters on its own W-th part of the batch."""
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

    def _outputs_in_micro_batches(self, params: Any, variables: Any, images: jax.Array, rngs: Rngs) -> tuple[Any, Any]:
        """Run one micro-batch after another, each again for its gradient, so that one at a time is in memory.

        Layers draw for each example what they draw when the whole batch goes through at once. The first examples go
        through once more where the batch does not divide evenly, and are dropped.
        """
        assert self.micro_batch is not None
        examples = images.shape[0]
        parts = split_batch(images, self.micro_batch)

        @jax.checkpoint
        def body(variables: Any, part: MicroBatches) -> tuple[Any, Any]:
            with narrow_context(indices=part.indices):
                outputs, variables = self._forward(params, variables, part.batch, rngs)
            return variables, outputs

        variables, outputs = jax.lax.scan(body, variables, parts)
        return jax.tree.map(lambda x: collect(x, examples), outputs), variables

    def _add_up(
        self,
        params: Any,
        variables: Any,
        batch: Batch,
        rngs: Rngs,
        scale: Callable[[jax.Array], jax.Array],
        devices: ShardedStep,
    ) -> tuple[Evaluation, Any]:
        """Evaluate the objective and add its gradient up, one micro-batch after another."""
        assert self.micro_batch is not None
        examples = batch.images.shape[0]

        def gradient(variables: Any, part: MicroBatches) -> tuple[Any, Any, Any]:
            def share(params: Any) -> tuple[jax.Array, Any]:
                with narrow_context(indices=part.indices):
                    whole = devices.all_gather_params(params)
                    outputs, after = self._forward(whole, variables, part.batch.images, rngs)
                losses = self.losses(outputs, part.batch.labels)
                value = (losses * part.weights.astype(losses.dtype)).sum() / examples
                return scale(value), ((losses, logits_of(outputs)), after)

            grads, (found, after) = jax.grad(devices.regather_in_backward(share), has_aux=True)(params)
            return devices.reduce_scatter_grads(grads), found, after

        first = jax.tree.map(jnp.zeros_like, params)
        if self.penalties:
            first = jax.grad(lambda p: scale(jnp.asarray(self.penalty(p))))(params)
        grads, (losses, logits), variables = accumulate(
            gradient, first, variables, split_batch(batch, self.micro_batch), examples
        )
        return Evaluation(self._value(losses, params), losses, logits, variables), grads

    def _value(self, losses: jax.Array, params: Any) -> jax.Array:
        return losses.mean() + self.penalty(params) if self.penalties else losses.mean()

    def _is_whole(self, images: jax.Array) -> bool:
        return self.micro_batch is None or self.micro_batch >= images.shape[0]
