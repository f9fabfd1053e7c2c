"""The training step: `(state, batch) -> (state, metrics)`, pure, the same code on one device and on many."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxtrain.data.loader import Arrays, Batch, Loader, Order
from jaxtrain.optim.losses import Loss
from jaxtrain.optim.schedules import Schedule
from jaxtrain.training.metrics import Pair, Totals, add_pairs, measure
from jaxtrain.training.parallel import Layout
from jaxtrain.training.random import MODEL_STREAMS, stream
from jaxtrain.training.state import TrainState

TrainStep = Callable[[TrainState, Batch], tuple[TrainState, dict[str, Pair]]]


def make_train_step(model: nn.Module, tx: optax.GradientTransformationExtraArgs, loss: Loss, seed: int) -> TrainStep:
    """The step of `model` under `tx`. It draws the model's random streams from `(seed, name, state.step)`.

    The optimizer gets `value`, `grad` and `value_fn` besides, for rules that search along a line.
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Pair]]:
        rngs = {name: stream(seed, name, state.step) for name in MODEL_STREAMS}

        def objective(params: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array, Any]]:
            logits, variables = model.apply(
                {"params": params, **state.variables},
                batch.images,
                train=True,
                rngs=rngs,
                mutable=tuple(state.variables),
            )
            losses = loss(logits, batch.labels)
            return losses.mean(), (losses, logits, variables)

        (value, (losses, logits, variables)), grads = jax.value_and_grad(objective, has_aux=True)(state.params)
        updates, opt_state = tx.update(
            grads,
            state.opt_state,
            state.params,
            value=value,
            grad=grads,
            value_fn=lambda params: objective(params)[0],
        )
        params = optax.apply_updates(state.params, updates)
        new = TrainState(step=state.step + 1, params=params, variables=variables, opt_state=opt_state)
        return new, measure(losses, logits, batch.labels)

    return train_step


Dispatch = Callable[[TrainState, Totals, Order, Arrays], tuple[TrainState, Totals, jax.Array]]


def make_dispatch(step: TrainStep, load: Loader, schedule: Schedule, layout: Layout) -> Dispatch:
    """What the loop calls once a step: loads the batch of `state.step`, steps, adds the metrics to the totals.

    State and totals are donated. The third result is the new step count, a small array of its own that the loop
    can wait for while everything else is given away to the next call.
    """

    def dispatch(
        state: TrainState, totals: Totals, order: Order, arrays: Arrays
    ) -> tuple[TrainState, Totals, jax.Array]:
        batch = load(arrays, order, state.step)
        new, pairs = step(state, batch)
        bad = jnp.where(jnp.isfinite(pairs["loss"][0]), totals.first_bad, jnp.minimum(totals.first_bad, new.step))
        totals = Totals(
            pairs=add_pairs(totals.pairs, pairs),
            learning_rate=jnp.asarray(schedule(state.step), jnp.float32),
            first_bad=bad,
        )
        return new, totals, new.step

    everywhere = layout.replicated
    return jax.jit(dispatch, donate_argnums=(0, 1), in_shardings=everywhere, out_shardings=everywhere)
