"""The training step: `(state, batch) -> (state, metrics)`, pure, the same code on one device and on many."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxtrain.data.loader import Arrays, Batch, Loader, Order
from jaxtrain.models.outputs import logits_of
from jaxtrain.training.metrics import Pair, Totals, add_pairs, measure
from jaxtrain.training.objective import Objective
from jaxtrain.training.parallel import Layout
from jaxtrain.training.random import MODEL_STREAMS, stream
from jaxtrain.training.state import TrainState

TrainStep = Callable[[TrainState, Batch], tuple[TrainState, dict[str, Pair]]]


def make_train_step(objective: Objective, tx: optax.GradientTransformationExtraArgs, seed: int) -> TrainStep:
    """The step of `objective` under `tx`. It draws the model's random streams from `(seed, name, state.step)`.

    Besides the gradients the optimizer gets, as extra arguments that cost nothing where they are not used: `value` and
    `grad`; `value_fn(params)`, the objective of this batch; `output_fn(params)` and `output_loss(logits)`, its two
    halves without penalties; `worker_value_fn(stacked)`, the objective of W workers that share the batch.
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Pair]]:
        rngs = {name: stream(seed, name, state.step) for name in MODEL_STREAMS}

        def outputs(params: Any) -> tuple[Any, Any]:
            return objective.outputs(params, state.variables, batch.images, rngs)

        def objective_of(params: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array, Any]]:
            found, variables = outputs(params)
            losses = objective.losses(found, batch.labels)
            value = losses.mean()
            if objective.penalties:
                value += objective.penalty(params)
            return value, (losses, logits_of(found), variables)

        (value, (losses, logits, variables)), grads = jax.value_and_grad(objective_of, has_aux=True)(state.params)
        updates, opt_state = tx.update(
            grads,
            state.opt_state,
            state.params,
            value=value,
            grad=grads,
            value_fn=lambda params: objective_of(params)[0],
            output_fn=lambda params: outputs(params)[0],
            output_loss=lambda found: objective.losses(found, batch.labels).mean(),
            worker_value_fn=lambda stacked: objective.worker_values(stacked, state.variables, batch, rngs),
        )
        params = optax.apply_updates(state.params, updates)
        new = TrainState(step=state.step + 1, params=params, variables=variables, opt_state=opt_state)
        return new, measure(losses, logits, batch.labels)

    return train_step


Dispatch = Callable[[TrainState, Totals, Order, Arrays], tuple[TrainState, Totals, jax.Array]]


LearningRate = Callable[[Any, jax.Array], jax.Array]
"""`(state of the optimizer, step) -> the learning rate of the next update`, for the metrics."""


def make_dispatch(
    step: TrainStep, load: Loader, learning_rate: LearningRate, layout: Layout, *, streamed: bool = False
) -> Dispatch:
    """What the loop calls once a step: loads the batch of `state.step`, steps, adds the metrics to the totals.

    State and totals are donated. The third result is the new step count, a small array of its own that the loop
    can wait for while everything else is given away to the next call. Where batches are `streamed`, the arrays are
    those of one, divided among the devices.
    """

    def dispatch(
        state: TrainState, totals: Totals, order: Order, arrays: Arrays
    ) -> tuple[TrainState, Totals, jax.Array]:
        batch = load(arrays, order, state.step)
        new, pairs = step(state, batch)
        bad = jnp.where(jnp.isfinite(pairs["loss"][0]), totals.first_bad, jnp.minimum(totals.first_bad, new.step))
        totals = Totals(
            pairs=add_pairs(totals.pairs, pairs),
            learning_rate=learning_rate(state.opt_state, state.step),
            first_bad=bad,
        )
        return new, totals, new.step

    everywhere = layout.replicated
    given = (everywhere, everywhere, everywhere, layout.batch if streamed else everywhere)
    return jax.jit(dispatch, donate_argnums=(0, 1), in_shardings=given, out_shardings=everywhere)
