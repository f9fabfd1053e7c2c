"""Which parameters are evaluated: the trained ones, or their average with batch statistics of its own."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxtrain.data.loader import normalize, take
from jaxtrain.data.memory import Arrays, DeviceSplit
from jaxtrain.data.preprocessing.base import Preprocessing
from jaxtrain.nn.batch_statistics import batch_statistics_of, mean_of
from jaxtrain.optim.averages import evaluation_params
from jaxtrain.random import MODEL_STREAMS, STATISTICS, stream
from jaxtrain.training.plan import Plan
from jaxtrain.training.state import TrainState

Evaluated = Callable[[TrainState], tuple[Any, Any]]
"""`state -> (params, variables)` for evaluation."""
Observe = Callable[[TrainState, float], TrainState]
"""`(state, validation metric) -> state`, for a learning rate that follows the metric."""

_COLLECTION = "batch_stats"


def make_evaluated(plan: Plan, normalization: Preprocessing, arrays: Mapping[str, DeviceSplit]) -> Evaluated:
    """What of the state is evaluated.

    Without an average it is what is trained. The statistics that a model keeps of its batches (BatchNorm) belong to the
    parameters that made them; for an average they are computed anew, from training images without augmentation.
    """
    if not plan.averages:
        return lambda state: (state.params, state.variables)
    average = plan.layout.jit(evaluation_params, out_shardings=plan.layout.of_params(plan.abstract.params))
    if not needs_statistics(plan):
        return lambda state: (average(state.opt_state, state.params), state.variables)
    recompute = _recompute(plan, normalization)

    def evaluated(state: TrainState) -> tuple[Any, Any]:
        params = average(state.opt_state, state.params)
        return params, {**state.variables, _COLLECTION: recompute(params, state.variables, arrays["train"])}

    return evaluated


def needs_statistics(plan: Plan) -> bool:
    """Whether an evaluation looks at training images, to compute the batch statistics of averaged parameters."""
    return plan.averages and _COLLECTION in plan.abstract.variables


def _recompute(plan: Plan, normalization: Preprocessing) -> Callable[[Any, Any, DeviceSplit], Any]:
    """`(params, variables, training split) -> batch statistics`, the mean over batches spread evenly over the split."""
    examples, config = plan.clock.examples, plan.config
    size = min(config.evaluation.batch_size, examples) // plan.layout.shares * plan.layout.shares
    size = max(size, plan.layout.shares)
    count = min(config.evaluation.statistics_batches, max(examples // size, 1))
    everywhere = plan.layout.replicated

    numbers = np.arange(size)

    def one(params: Any, variables: Any, arrays: Arrays, places: jax.Array, batch: jax.Array) -> Any:
        images, _ = take(arrays, places, plan.layout.batch)
        rngs = {name: stream(config.seed, f"{STATISTICS}/{name}", batch) for name in MODEL_STREAMS}
        whole = plan.layout.all_gather_params(params)
        return batch_statistics_of(plan.model, whole, variables, normalize(images, normalization), rngs)

    given = (None, None, everywhere, everywhere, everywhere)
    compiled = plan.layout.jit(one, in_shardings=given, out_shardings=everywhere)

    def of_batch(params: Any, variables: Any, split: DeviceSplit, batch: int) -> Any:
        places = np.minimum((numbers * count + batch) * (examples // (size * count) or 1), examples - 1)
        arrays, places = split.select(places)
        return compiled(
            params, variables, arrays, *jax.device_put((places.astype(np.int32), np.int32(batch)), everywhere)
        )

    return lambda params, variables, split: mean_of(of_batch(params, variables, split, batch) for batch in range(count))


def make_observe(plan: Plan) -> Observe:
    """Tells a learning rate that follows the validation metric; leaves the state alone where there is none."""
    if plan.optimizer.plateau is None:
        return lambda state, _: state

    def observe(state: TrainState, metric: jax.Array) -> TrainState:
        opt_state = plan.optimizer.observe(state.opt_state, metric, higher_is_better=plan.higher_is_better)
        return state.replace(opt_state=opt_state)

    states = plan.layout.of_state(plan.abstract)
    given = (states, plan.layout.replicated)
    compiled = plan.layout.jit(observe, donate_argnums=0, in_shardings=given, out_shardings=states)
    return lambda state, value: compiled(state, jax.device_put(np.float32(value), plan.layout.replicated))
