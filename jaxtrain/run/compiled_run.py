"""The compiled functions of a run and its data on the devices, made from its plan."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxtrain.data.epoch_shuffle import EpochShuffle, FullBatchOrder
from jaxtrain.data.memory import DeviceSplit, TrainingBatches
from jaxtrain.data.preprocessing.base import Preprocessing
from jaxtrain.data.source import Split
from jaxtrain.evaluation.averaged import EvaluationVariables, Observe, make_evaluation_variables, make_observe
from jaxtrain.evaluation.evaluate import EvaluateSplit, evaluate_in_chunks, make_evaluate
from jaxtrain.evaluation.tta import make_run_evaluate
from jaxtrain.run.data_wait import MeteredBatches
from jaxtrain.sharding import put
from jaxtrain.training.dispatch import MultiStep, compile_loop_step, compile_multi_step
from jaxtrain.training.inputs import make_loader, make_order, make_stream, place_splits
from jaxtrain.training.metrics import Totals, empty_totals, pack_totals
from jaxtrain.training.plan import Plan
from jaxtrain.training.precision import apply_matmul_precision
from jaxtrain.training.state import all_finite
from jaxtrain.training.step import LoopStep


@dataclasses.dataclass(frozen=True)
class CompiledRun:
    """The functions that the training loop calls, and their data.

    Attributes:
      dispatch: function that runs one step.
      multi_step: function that runs several steps; None if steps are dispatched one by one. If it exists, it also runs
        single steps, so that all steps have bitwise the same results.
      turn: function that ends an interval: it returns the packed totals, and the empty totals of the next interval.
      empty: function that returns the totals of the first interval.
      finite: function that returns whether a tree is free of NaN and infinity.
      evaluate: evaluation of a split during training.
      evaluate_final: evaluation at the end of the run, including test-time augmentation.
      evaluated: function that returns the parameters and variables of a state that are evaluated.
      observe: function that passes the validation metric to the optimizer.
      order: order of the examples.
      splits: splits on the devices, by name.
      batches: arrays that hold the examples of a step, as a function of the step.
    """

    dispatch: LoopStep
    multi_step: MultiStep | None
    turn: Callable[[Totals], tuple[jax.Array, Totals]]
    empty: Callable[[], Totals]
    finite: Callable[[Any], jax.Array]
    evaluate: EvaluateSplit
    evaluate_final: EvaluateSplit
    evaluated: EvaluationVariables
    observe: Observe
    order: EpochShuffle | FullBatchOrder
    splits: dict[str, DeviceSplit]
    batches: TrainingBatches

    @property
    def program(self) -> Any:
        """The compiled function that the loop calls."""
        return self.dispatch if self.multi_step is None else self.multi_step.compiled

    def count_programs(self) -> int:
        """Return the number of compiled programs of the training step, which should be 1; 0 if it is unknown."""
        return int(self.program._cache_size()) if hasattr(self.program, "_cache_size") else 0

    def lower(self, state: Any) -> Any:
        """Lower the program for `state`, abstract or not, so that it can be compiled and analyzed.

        Return None for `pmap` and for meshes with explicit axes, whose programs cannot be lowered from here.
        """
        if not hasattr(self.program, "lower"):
            return None
        count = () if self.multi_step is None else (self.multi_step.count(1),)
        return self.program.lower(state, self.empty(), self.order.order(0), self.batches(0), *count)


def compile_run(plan: Plan, normalization: Preprocessing, loaded: Mapping[str, Split]) -> CompiledRun:
    """Put the splits on the devices and make the functions of a run; each is compiled at its first call.

    Args:
      plan: the plan of the run.
      normalization: the preprocessing, fitted.
      loaded: the splits as `read_splits` returns them.
    """
    layout, config = plan.layout, plan.config
    size, level = config.evaluation.batch_size, config.precision.matmul
    splits = place_splits(plan.splits, layout, loaded)
    plain = make_evaluate(plan.model, plan.loss, normalization, size, layout)
    final = plain if config.evaluation.tta is None else make_run_evaluate(plan, plan.model, normalization)
    single, several = compile_steps(plan, normalization)
    turn = layout.jit(pack_totals, out_shardings=layout.replicated)
    return CompiledRun(
        dispatch=single,
        multi_step=several,
        turn=turn,
        empty=lambda: turn(put(_zero_totals(), layout.replicated))[1],
        finite=layout.jit(all_finite, out_shardings=layout.replicated),
        evaluate=evaluate_in_chunks(apply_matmul_precision(plain, level), size),
        evaluate_final=evaluate_in_chunks(apply_matmul_precision(final, level), size),
        evaluated=apply_matmul_precision(make_evaluation_variables(plan, normalization, splits), level),
        observe=make_observe(plan),
        order=make_order(plan),
        splits=splits,
        batches=splits["train"].training_batches(lambda split: MeteredBatches(make_stream(plan, split))),
    )


def compile_steps(plan: Plan, normalization: Preprocessing) -> tuple[LoopStep, MultiStep | None]:
    """Return the functions that run one step and several steps; the second is None if the run never uses it."""
    load, devices = make_loader(plan, normalization), plan.devices
    step = (plan.shared_step, load, plan.optimizer.rate, devices, plan.abstract)
    single: LoopStep = compile_loop_step(*step, streamed=plan.splits.streamed)
    return single, compile_multi_step(*step) if plan.steps_per_call.most > 1 else None


def _zero_totals() -> Totals:
    """Return totals of zeros, with which `turn` is called for the empty totals; their values do not matter."""
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), jax.eval_shape(empty_totals))
