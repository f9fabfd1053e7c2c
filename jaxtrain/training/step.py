"""The training step, `(state, batch) -> (state, metrics)`: a pure function, the same code on one device and on many.

Read `make_train_step` from top to bottom. Its calls into other files:

* `objective.value_and_gradient` (training/objective.py): model, loss, penalties and micro-batches.
* `tx.update`: the optimizer, a chain of optax transformations (training/optimizer.py builds it from a config).
* `devices.*` (distributed/sharded_step.py): communication between devices; skip these calls for one device.
* `skip_overflow`, `scale_loss` (optim/loss_scale.py): loss scaling for float16; without it they change nothing.

`make_loop_step` is the step as the training loop calls it: it loads its batch (`devices.load`, data/loader.py) and adds
its metrics to those of the earlier steps. `repeat_step` runs several such steps in a call. training/dispatch.py
compiles both.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxtrain.data.epoch_shuffle import EpochOrder
from jaxtrain.data.loader import Batch, TrainingLoader
from jaxtrain.data.memory import Arrays
from jaxtrain.distributed.sharded_step import ONE_DEVICE, ShardedStep
from jaxtrain.optim.batch_objective import BatchObjective, unavailable_objective
from jaxtrain.optim.loss_scale import (
    NO_OBJECTIVE,
    count_updates,
    current_scale,
    has_loss_scale,
    scale_loss,
    skip_overflow,
)
from jaxtrain.optim.schedules.base import Rate
from jaxtrain.random import MODEL_STREAMS, stream_key
from jaxtrain.sharding import constrain
from jaxtrain.step_context import StepContext, step_context
from jaxtrain.training.metrics import Pair, Totals, add_pairs, metric_pairs
from jaxtrain.training.objective import Objective, Rngs
from jaxtrain.training.state import TrainState

TrainStep = Callable[[TrainState, Batch], tuple[TrainState, dict[str, Pair]]]


def make_train_step(
    objective: Objective, tx: optax.GradientTransformation, seed: int = 0, devices: ShardedStep = ONE_DEVICE
) -> TrainStep:
    """Return the training step of `objective` under the optimizer `tx`, for `jax.jit`.

    `jaxtrain.fit` runs this step. The example uses it in a loop of your own.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> from jaxtrain.optim.losses import cross_entropy
      >>> model = jaxtrain.models.linear(num_classes=10)
      >>> tx = jaxtrain.optim.sgd(0.1)
      >>> step = jax.jit(jaxtrain.make_train_step(jaxtrain.Objective(model, cross_entropy()), tx))
      >>> state = jaxtrain.init_state(model, tx, image_shape=(8, 8, 1), seed=0)
      >>> batch = jaxtrain.Batch(jnp.zeros((32, 8, 8, 1)), jnp.zeros(32, jnp.int32))
      >>> state, metrics = step(state, batch)
      >>> int(state.step), {name: int(count) for name, (total, count) in metrics.items()}
      (1, {'accuracy': 32, 'loss': 32})

    Args:
      objective: the model, its loss and penalties.
      tx: the optimizer. Besides the gradients it gets the extra arguments `value`, `grad`, `value_fn` and `objective`
        (`optim.batch_objective.BatchObjective`).
      seed: the seed of the model's random streams, whose keys are functions of `(seed, name, state.step)`.
      devices: the operations by which several devices share the step; the default is a step on whole batches and whole
        states.

    Returns:
      A pure function. Its metrics are pairs `(sum over examples, number of examples)`, f32[] and int32[].
    """
    tx = optax.with_extra_args_support(tx)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Pair]]:
        with step_context(StepContext(devices.example_indices(len(batch.labels)), devices.batch_norm_scope)):
            rngs = {name: stream_key(seed, name, state.step) for name in MODEL_STREAMS}

            # loss and gradient
            result, grads = objective.value_and_gradient(
                state.params, state.variables, batch, rngs, lambda loss: scale_loss(loss, state.opt_state), devices
            )
            grads = devices.reduce_scatter_grads(grads)  # only on a mesh
            value, variables, grads = devices.pmean((result.value, result.variables, grads))  # only with pmap
            grads = devices.finish_grads(grads)

            # update
            again = batch_objective(state, batch, rngs)
            updates, opt_state = tx.update(
                grads, state.opt_state, state.params, value=value, grad=grads, value_fn=again.value, objective=again
            )
            params = optax.apply_updates(state.params, updates)

            # new state and metrics
            new = TrainState(step=state.step + 1, params=params, variables=variables, opt_state=opt_state)
            metrics = devices.psum(metric_pairs(result.losses, result.logits, batch.labels))
            return skip_overflow(state, new, metrics)

    def batch_objective(state: TrainState, batch: Batch, rngs: Rngs) -> BatchObjective:
        """Return the functions by which the optimizer evaluates the objective of this batch again."""
        if reason := NO_OBJECTIVE if has_loss_scale(state.opt_state) else devices.needs_one_gradient:
            return unavailable_objective(reason)

        def outputs(params: Any) -> Any:
            return objective.outputs(devices.all_gather_params(params), state.variables, batch.images, rngs)[0]

        return BatchObjective(
            value=lambda params: objective.evaluate(params, state.variables, batch, rngs, devices).value,
            outputs=outputs,
            output_loss=lambda logits: objective.losses(logits, batch.labels).mean(),
            worker_values=lambda stacked: objective.worker_values(stacked, state.variables, batch, rngs),
        )

    return train_step


LoopStep = Callable[..., tuple[TrainState, Totals, jax.Array]]
"""`(state, totals, order, arrays[, count]) -> (state, totals, step)`."""


def make_loop_step(step: TrainStep, load: TrainingLoader, rate: Rate | None, devices: ShardedStep) -> LoopStep:
    """Return the step as the loop calls it: load the batch of `state.step`, update, add the metrics to the totals.

    The third result is the new step count in a separate small array. The loop can wait for it, while state and totals
    are donated to the next call.

    Args:
      step: the training step.
      load: the loader of its batches.
      rate: the learning rate, for the metrics; None for an optimizer that has none.
      devices: the operations by which several devices share the step; the same object that `step` was made with.
    """

    def loop_step(
        state: TrainState, totals: Totals, order: EpochOrder, arrays: Arrays
    ) -> tuple[TrainState, Totals, jax.Array]:
        new, pairs = step(state, devices.load(load, arrays, order, state.step))
        bad = jnp.where(jnp.isfinite(pairs["loss"][0]), totals.first_bad, jnp.minimum(totals.first_bad, new.step))
        updates = count_updates(state.opt_state, state.step)
        totals = Totals(
            pairs=add_pairs(totals.pairs, pairs),
            learning_rate=jnp.asarray(jnp.nan if rate is None else rate(state.opt_state, updates), jnp.float32),
            loss_scale=current_scale(new.opt_state),
            first_bad=bad,
        )
        return new, totals, new.step

    return loop_step


def repeat_step(loop_step: LoopStep, state_shardings: Any = None) -> LoopStep:
    """Return `(state, totals, order, arrays, count)`, which calls `loop_step` `count` times; `count` is int32[].

    Args:
      loop_step: the step that `make_loop_step` returned.
      state_shardings: the shardings of the state if several devices share it. Without them, XLA would keep sharded
        parameters gathered between steps.
    """

    def several_steps(state: Any, totals: Any, order: Any, arrays: Any, count: jax.Array) -> tuple[Any, Any, jax.Array]:
        def body(_: jax.Array, carry: tuple[Any, Any]) -> tuple[Any, Any]:
            state, totals = carry
            state = state if state_shardings is None else constrain(state, state_shardings)
            state, totals, _ = loop_step(state, totals, order, arrays)
            return state, totals

        state, totals = jax.lax.fori_loop(0, count, body, (state, totals))
        return state, totals, state.step

    return several_steps
