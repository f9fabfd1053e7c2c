"""What the loop calls once a step: a compiled function that loads the batch, steps, and adds up the metrics."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.data.loader import Arrays, Loader, Order, Part, part_of
from jaxtrain.distributed.mesh import Layout
from jaxtrain.distributed.partition import DATA
from jaxtrain.random import numbered
from jaxtrain.training.loss_scale import current_scale
from jaxtrain.training.metrics import Totals, add_pairs
from jaxtrain.training.multi_step import repeated
from jaxtrain.training.state import TrainState
from jaxtrain.training.step import TrainStep

Dispatch = Callable[[TrainState, Totals, Order, Arrays], tuple[TrainState, Totals, jax.Array]]


LearningRate = Callable[[Any, jax.Array], jax.Array]
"""`(state of the optimizer, step) -> the learning rate of the next update`, for the metrics."""


def make_dispatch(
    step: TrainStep,
    load: Loader,
    learning_rate: LearningRate,
    layout: Layout,
    *,
    state: Any = None,
    streamed: bool = False,
    several: bool = False,
) -> Dispatch:
    """What the loop calls once a step: loads the batch of `state.step`, steps, adds the metrics to the totals.

    State and totals are donated. The third result is the new step count, a small array of its own that the loop
    can wait for while everything else is given away to the next call.

    Args:
      step: shared as `layout` says.
      load: gives it its batches.
      learning_rate: for the metrics.
      layout: of the devices.
      state: the shardings of the state; None where it is on every device.
      streamed: the arrays are those of one batch, divided among the devices.
      several: the function makes several steps, whose number is its last argument.
    """

    def dispatch(
        state: TrainState, totals: Totals, order: Order, arrays: Arrays, part: Part | None = None
    ) -> tuple[TrainState, Totals, jax.Array]:
        batch = load(arrays, order, state.step, part)
        if part is None:
            new, pairs = step(state, batch)
        else:
            examples = jnp.arange(batch.labels.shape[0] * part.count, dtype=jnp.uint32)
            with numbered(part_of(examples, part)):
                new, pairs = step(state, batch)
        bad = jnp.where(jnp.isfinite(pairs["loss"][0]), totals.first_bad, jnp.minimum(totals.first_bad, new.step))
        totals = Totals(
            pairs=add_pairs(totals.pairs, pairs),
            learning_rate=learning_rate(state.opt_state, state.step),
            loss_scale=current_scale(new.opt_state),
            first_bad=bad,
        )
        return new, totals, new.step

    if layout.config.backend == "pmap":
        return _mapped(dispatch, layout, streamed=streamed)
    everywhere = layout.replicated
    states = everywhere if state is None else state
    given: tuple[Any, ...] = (states, everywhere, everywhere, layout.batch if streamed else everywhere)
    given += (everywhere,) if several else ()
    made = (states, everywhere, everywhere)
    called = repeated(dispatch, state) if several else dispatch
    return layout.jit(called, donate_argnums=(0, 1), in_shardings=given, out_shardings=made)


def _mapped(dispatch: Callable[..., Any], layout: Layout, *, streamed: bool) -> Dispatch:
    """`dispatch` by `jax.pmap`: each device has the whole state, and runs the step on its part of the batch.

    Arguments and results without an axis of devices are ordinary arrays that lie whole on each device, so that
    everything around the step is the same as with `jit`.
    """
    count = layout.shares

    def of_part(state: TrainState, totals: Totals, order: Order, arrays: Arrays, number: jax.Array) -> Any:
        return dispatch(state, totals, order, arrays, Part(number, count))

    mapped = jax.pmap(
        of_part,
        axis_name=DATA,
        in_axes=(None, None, None, 0 if streamed else None, 0),
        out_axes=None,
        devices=layout.mesh.devices.flatten().tolist(),
        donate_argnums=(0, 1),
    )
    numbers = jax.device_put(np.arange(count, dtype=np.uint32), layout.batch)
    dealt = jax.jit(
        lambda arrays: jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), arrays), out_shardings=layout.batch
    )

    def call(state: TrainState, totals: Totals, order: Order, arrays: Arrays) -> Any:
        return mapped(state, totals, order, dealt(arrays) if streamed else arrays, numbers)

    return call
