"""The objective of training: the mean loss of a batch, whole or in micro-batches, plus penalties."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxtrain.data.loader import Batch
from jaxtrain.distributed.sharded_step import ONE_DEVICE, ShardedStep
from jaxtrain.models.outputs import Outputs, main_logits
from jaxtrain.optim.losses import Loss
from jaxtrain.optim.penalties import Penalty
from jaxtrain.step_context import narrow_context
from jaxtrain.training.accumulation import MicroBatches, accumulate, merge_round_robin, split_batch, split_round_robin

Rngs = Mapping[str, jax.Array]


class ObjectiveResult(NamedTuple):
    """The result of evaluating the objective on a batch of N examples, in training mode.

    Attributes:
      value: f32[], the mean loss plus the penalties.
      losses: f32[N], the loss of each example.
      logits: f32[N, K], the outputs of the model.
      variables: the model's variables after the batch.
    """

    value: jax.Array
    losses: jax.Array
    logits: jax.Array
    variables: Any


@dataclasses.dataclass(frozen=True)
class Objective:
    """The function that a training step minimizes: a model, its loss and penalties.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> from jaxtrain.optim.losses import cross_entropy
      >>> model = jaxtrain.models.linear(num_classes=4)
      >>> state = jaxtrain.init_state(model, jaxtrain.optim.sgd(0.1), image_shape=(2, 2, 1))
      >>> objective = jaxtrain.Objective(model, cross_entropy())
      >>> batch = jaxtrain.Batch(jnp.zeros((8, 2, 2, 1)), jnp.zeros(8, jnp.int32))
      >>> result = jax.jit(objective.evaluate)(state.params, state.variables, batch, rngs={})
      >>> result.losses.shape, round(float(result.value), 4)
      ((8,), 1.3863)

    Attributes:
      model: the Linen module, `(images, *, train) -> logits`.
      loss: the loss, `(logits, labels) -> f32[N]`.
      penalties: functions of the parameters that are added to the mean loss.
      micro_batch: the largest number of examples that the model processes at a time; None for the whole batch.
      adds_gradients: whether the gradient of a batch is the sum of the gradients of its micro-batches, with one pass
        over each. If False, it is the gradient of `outputs`, with two passes, and rounds as `outputs` does. Optimizers
        that compare values of the objective need False.
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
    ) -> tuple[ObjectiveResult, Any]:
        """Evaluate the objective on `batch`, and compute the gradient of `scale(objective)`.

        Args:
          params: the parameters.
          variables: the model's other variables.
          batch: the examples.
          rngs: a key for each random stream of the model.
          scale: a linear function that is applied to the value before it is differentiated.
          devices: the operations by which several devices share the step.
        """
        if not self._is_whole(batch.images) and self.adds_gradients:
            return self._accumulate(params, variables, batch, rngs, scale, devices)

        def objective(params: Any) -> tuple[jax.Array, ObjectiveResult]:
            result = self.evaluate(params, variables, batch, rngs, devices)
            return scale(result.value), result

        grads, result = jax.grad(devices.regather_in_backward(objective), has_aux=True)(params)
        return result, grads

    def evaluate(
        self, params: Any, variables: Any, batch: Batch, rngs: Rngs, devices: ShardedStep = ONE_DEVICE
    ) -> ObjectiveResult:
        """Evaluate the objective on `batch`; the arguments are those of `value_and_gradient`."""
        outputs, variables = self.outputs(devices.all_gather_params(params), variables, batch.images, rngs)
        losses = self.losses(outputs, batch.labels)
        logits = outputs.logits if isinstance(outputs, Outputs) else outputs
        return ObjectiveResult(self._value(losses, params), losses, logits, variables)

    def outputs(self, params: Any, variables: Any, images: jax.Array, rngs: Rngs) -> tuple[Any, Any]:
        """Return logits f32[N, K] or `Outputs` for `images` f32[N, H, W, C], and the model's variables after them."""
        if self._is_whole(images):
            return self._forward(params, variables, images, rngs)
        return self._outputs_in_micro_batches(params, variables, images, rngs)

    def losses(self, outputs: Any, labels: jax.Array) -> jax.Array:
        """Return f32[N], the loss of each example, including the weighted loss of auxiliary heads."""
        if not isinstance(outputs, Outputs):
            return self.loss(outputs, labels)
        auxiliary = sum(self.loss(logits, labels) for logits in outputs.auxiliary)
        return self.loss(outputs.logits, labels) + outputs.auxiliary_weight * auxiliary

    def penalty(self, params: Any) -> jax.Array | float:
        """Return f32[], the sum of the penalties; 0.0 if there are none."""
        return sum((penalty(params) for penalty in self.penalties), start=0.0)

    def worker_values(self, stacked: Any, variables: Any, batch: Batch, rngs: Rngs) -> jax.Array:
        """Return f32[W], the objective of each of W workers with its own parameters on its own part of the batch.

        Args:
          stacked: the parameters of all workers, stacked along a first axis of W.
          variables: the model's other variables.
          batch: the examples; their number must be a multiple of W.
          rngs: a key for each random stream of the model.

        Raises:
          ValueError: the batch does not divide evenly among the workers.
        """
        workers = jax.tree.leaves(stacked)[0].shape[0]
        if batch.labels.shape[0] % workers:
            raise ValueError(
                f"a batch of {batch.labels.shape[0]} examples does not divide evenly among {workers} workers; "
                f"choose a multiple of {workers}"
            )
        parts = jax.tree.map(lambda x: split_round_robin(x, workers), batch)

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
        """Run one micro-batch after another, so that memory holds the activations of one at a time.

        The backward pass runs each micro-batch again. Random layers draw the same numbers for each example as with the
        whole batch at once. If the batch does not divide evenly, the first examples are repeated, and the outputs of
        the repetitions are dropped.
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
        return jax.tree.map(lambda x: merge_round_robin(x, examples), outputs), variables

    def _accumulate(
        self,
        params: Any,
        variables: Any,
        batch: Batch,
        rngs: Rngs,
        scale: Callable[[jax.Array], jax.Array],
        devices: ShardedStep,
    ) -> tuple[ObjectiveResult, Any]:
        """Evaluate the objective and accumulate its gradient, one micro-batch after another."""
        assert self.micro_batch is not None
        examples = batch.images.shape[0]

        def gradient(variables: Any, part: MicroBatches) -> tuple[Any, Any, Any]:
            def share(params: Any) -> tuple[jax.Array, Any]:
                with narrow_context(indices=part.indices):
                    whole = devices.all_gather_params(params)
                    outputs, after = self._forward(whole, variables, part.batch.images, rngs)
                losses = self.losses(outputs, part.batch.labels)
                value = (losses * part.weights.astype(losses.dtype)).sum() / examples
                return scale(value), ((losses, main_logits(outputs)), after)

            grads, (values, after) = jax.grad(devices.regather_in_backward(share), has_aux=True)(params)
            return devices.reduce_scatter_grads(grads), values, after

        initial = jax.tree.map(jnp.zeros_like, params)
        if self.penalties:
            initial = jax.grad(lambda p: scale(jnp.asarray(self.penalty(p))))(params)
        grads, (losses, logits), variables = accumulate(
            gradient, initial, variables, split_batch(batch, self.micro_batch), examples
        )
        return ObjectiveResult(self._value(losses, params), losses, logits, variables), grads

    def _value(self, losses: jax.Array, params: Any) -> jax.Array:
        return losses.mean() + self.penalty(params) if self.penalties else losses.mean()

    def _is_whole(self, images: jax.Array) -> bool:
        return self.micro_batch is None or self.micro_batch >= images.shape[0]
