"""The training step: `(state, batch) -> (state, metrics)`, pure, the same code on one device and on many."""

from collections.abc import Callable
from typing import Any

import optax

from jaxtrain.data.loader import Batch
from jaxtrain.distributed.sharded_step import ALONE, Sharing
from jaxtrain.nn.statistics_over import statistics_over
from jaxtrain.optim.loss_scaling import loss_scale_state
from jaxtrain.random import MODEL_STREAMS, stream
from jaxtrain.training.loss_scale import one_gradient_alone, scaled, without_skipped
from jaxtrain.training.metrics import Pair, measure
from jaxtrain.training.objective import Objective, Rngs
from jaxtrain.training.state import TrainState

TrainStep = Callable[[TrainState, Batch], tuple[TrainState, dict[str, Pair]]]


def make_train_step(
    objective: Objective, tx: optax.GradientTransformationExtraArgs, seed: int, sharing: Sharing = ALONE
) -> TrainStep:
    """The step of `objective` under `tx`. It draws the model's random streams from `(seed, name, state.step)`.

    `sharing` says how it is shared among devices; as it is made, it takes whole batches and whole states.

    Besides the gradients the optimizer gets, as extra arguments that cost nothing where they are not used: `value` and
    `grad`; `value_fn(params)`, the objective of this batch; `output_fn(params)` and `output_loss(logits)`, its two
    halves without penalties; `worker_value_fn(stacked)`, the objective of W workers that share the batch. Where `tx`
    scales the loss (`with_loss_scale`), it gets the gradients of the scaled one, and none of the functions.
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Pair]]:
        with statistics_over(sharing.statistics):
            return updated(state, batch)

    def updated(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Pair]]:
        rngs = {name: stream(seed, name, state.step) for name in MODEL_STREAMS}

        found, grads = objective.value_and_gradient(
            state.params, state.variables, batch, rngs, lambda value: scaled(value, state.opt_state), sharing
        )
        value, variables, grads = sharing.joined((found.value, found.variables, sharing.divided(grads)))
        grads = sharing.complete(grads)
        updates, opt_state = tx.update(
            grads, state.opt_state, state.params, value=value, grad=grads, **functions(state, batch, rngs)
        )
        params = optax.apply_updates(state.params, updates)
        new = TrainState(step=state.step + 1, params=params, variables=variables, opt_state=opt_state)
        return without_skipped(state, new, sharing.added(measure(found.losses, found.logits, batch.labels)))

    def functions(state: TrainState, batch: Batch, rngs: Rngs) -> dict[str, Any]:
        if loss_scale_state(state.opt_state) is not None:
            return dict.fromkeys(("value_fn", "output_fn", "output_loss", "worker_value_fn"), one_gradient_alone)

        def outputs(params: Any) -> Any:
            return objective.outputs(sharing.gathered(params), state.variables, batch.images, rngs)[0]

        every = {
            "value_fn": lambda params: objective.evaluation(params, state.variables, batch, rngs, sharing).value,
            "output_fn": outputs,
            "output_loss": lambda found: objective.losses(found, batch.labels).mean(),
            "worker_value_fn": lambda stacked: objective.worker_values(stacked, state.variables, batch, rngs),
        }
        return {name: sharing.whole(function) for name, function in every.items()}

    return train_step
