"""The parameters and variables that are evaluated: the trained ones, or averages with recomputed batch statistics."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxtrain.data.loader import normalize, take
from jaxtrain.data.memory import Arrays, DeviceSplit
from jaxtrain.data.preprocessing.base import Preprocessing
from jaxtrain.nn.batch_statistics import compute_batch_statistics, mean_statistics
from jaxtrain.optim.averages import evaluation_params
from jaxtrain.random import MODEL_STREAMS, STATISTICS, stream_key
from jaxtrain.training.plan import Plan
from jaxtrain.training.state import TrainState

EvaluationVariables = Callable[[TrainState], tuple[Any, Any]]
"""A function `state -> (params, variables)` that returns what is evaluated."""
Observe = Callable[[TrainState, float], TrainState]
"""A function `(state, validation metric) -> state`, for a learning rate that follows the metric."""

_COLLECTION = "batch_stats"


def make_evaluation_variables(
    plan: Plan, normalization: Preprocessing, arrays: Mapping[str, DeviceSplit]
) -> EvaluationVariables:
    """Return the function from a state to the parameters and variables that are evaluated.

    Without averaging these are the trained ones. The running statistics of batch normalization belong to the trained
    parameters. For averaged parameters they are recomputed from training images without augmentation.

    Args:
      plan: the plan of the run.
      normalization: the preprocessing, fitted.
      arrays: the splits on the devices; "train" is used for the statistics.
    """
    if not plan.averages:
        return lambda state: (state.params, state.variables)
    average = plan.layout.jit(evaluation_params, out_shardings=plan.layout.of_params(plan.abstract.params))
    if not needs_statistics(plan):
        return lambda state: (average(state.opt_state, state.params), state.variables)
    recompute = _make_recompute(plan, normalization)

    def average_and_recompute(state: TrainState) -> tuple[Any, Any]:
        params = average(state.opt_state, state.params)
        return params, {**state.variables, _COLLECTION: recompute(params, state.variables, arrays["train"])}

    return average_and_recompute


def needs_statistics(plan: Plan) -> bool:
    """Return whether evaluation needs training images, to compute the batch statistics of averaged parameters."""
    return plan.averages and _COLLECTION in plan.abstract.variables


def _make_recompute(plan: Plan, normalization: Preprocessing) -> Callable[[Any, Any, DeviceSplit], Any]:
    """Return `(params, variables, training split) -> batch statistics`.

    The statistics are the mean over `evaluation.statistics_batches` batches, spread evenly over the split.
    """
    examples, config = plan.clock.examples, plan.config
    size = min(config.evaluation.batch_size, examples) // plan.layout.shares * plan.layout.shares
    size = max(size, plan.layout.shares)
    count = min(config.evaluation.statistics_batches, max(examples // size, 1))
    replicated = plan.layout.replicated

    offsets = np.arange(size)

    def statistics(params: Any, variables: Any, arrays: Arrays, indices: jax.Array, batch: jax.Array) -> Any:
        images, _ = take(arrays, indices, plan.layout.batch)
        rngs = {name: stream_key(config.seed, f"{STATISTICS}/{name}", batch) for name in MODEL_STREAMS}
        whole = plan.layout.all_gather_params(params)
        return compute_batch_statistics(plan.model, whole, variables, normalize(images, normalization), rngs)

    in_shardings = (None, None, replicated, replicated, replicated)
    compiled = plan.layout.jit(statistics, in_shardings=in_shardings, out_shardings=replicated)

    def batch_statistics(params: Any, variables: Any, split: DeviceSplit, batch: int) -> Any:
        indices = np.minimum((offsets * count + batch) * (examples // (size * count) or 1), examples - 1)
        arrays, indices = split.select(indices)
        return compiled(
            params, variables, arrays, *jax.device_put((indices.astype(np.int32), np.int32(batch)), replicated)
        )

    return lambda params, variables, split: mean_statistics(
        batch_statistics(params, variables, split, batch) for batch in range(count)
    )


def make_observe(plan: Plan) -> Observe:
    """Return the function that passes the validation metric to the optimizer; it does nothing without a plateau."""
    if plan.optimizer.plateau is None:
        return lambda state, _: state

    def observe(state: TrainState, metric: jax.Array) -> TrainState:
        opt_state = plan.optimizer.observe(state.opt_state, metric, higher_is_better=plan.higher_is_better)
        return state.replace(opt_state=opt_state)

    states = plan.layout.of_state(plan.abstract)
    in_shardings = (states, plan.layout.replicated)
    compiled = plan.layout.jit(observe, donate_argnums=0, in_shardings=in_shardings, out_shardings=states)
    return lambda state, value: compiled(state, jax.device_put(np.float32(value), plan.layout.replicated))
