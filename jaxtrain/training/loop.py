"""The training loop. After each step, in this order: metrics are logged, the validation split is evaluated, the state
is saved; each when it is due.
"""

import dataclasses
import signal
import time
from collections.abc import Callable
from typing import Any

import jax

from jaxtrain.data.loader import Arrays, Held, Shuffle, Whole
from jaxtrain.data.streaming import StreamedSplit, TrainingStream
from jaxtrain.errors import Diverged, Interrupted
from jaxtrain.training.checkpoints import Progress, Saver
from jaxtrain.training.evaluated import Evaluated, Observe
from jaxtrain.training.intervals import Intervals, Record
from jaxtrain.training.metrics import Totals
from jaxtrain.training.pace import Pace
from jaxtrain.training.plan import Plan
from jaxtrain.training.signals import Stop
from jaxtrain.training.state import TrainState
from jaxtrain.training.step import Dispatch
from jaxtrain.training.streamed import EvaluateSplit


@dataclasses.dataclass(frozen=True)
class Tools:
    """The compiled parts of a run, and its data on the device; `evaluate_views` is what it ends with."""

    dispatch: Dispatch
    empty: Callable[[], Totals]
    finite: Callable[[Any], jax.Array]
    evaluate: EvaluateSplit
    evaluate_views: EvaluateSplit
    evaluated: Evaluated
    observe: Observe
    shuffle: Shuffle | Whole
    arrays: dict[str, Arrays | StreamedSplit]
    examples: Held | TrainingStream


@dataclasses.dataclass(frozen=True)
class Hooks:
    """Where the loop tells what happens: each step dispatched, and each record of metrics."""

    stepped: Callable[[int], None]
    write: Callable[[Record], None]


class Loop:
    """One session of a run: from the step its state stands at to the end, or to a signal."""

    def __init__(self, plan: Plan, tools: Tools, saver: Saver, hooks: Hooks, progress: Progress):
        self.plan = plan
        self.tools = tools
        self.saver = saver
        self.hooks = hooks
        self.progress = progress
        self.compile_seconds = 0.0
        self._intervals = Intervals(plan.clock, hooks.write)
        self._began = time.perf_counter()
        self._seconds_before = progress.seconds

    def run(self, state: TrainState, stop: Stop) -> TrainState:
        """Trains `state` (which is given away) to the end of the plan.

        Raises `Interrupted` after saving when `stop` asks for it, and `Diverged`, without saving, when the loss or
        the parameters are no longer finite.
        """
        plan, tools, stepped = self.plan, self.tools, self.hooks.stepped
        pace = Pace(plan.layout.steps_ahead)
        step = start = int(state.step)
        totals = tools.empty()
        next_event = plan.calendar.after(step)
        while step < plan.total_steps:
            state, totals, tick = tools.dispatch(state, totals, tools.shuffle.order(step), tools.examples(step))
            step += 1
            if step == start + 1:  # the call that compiles
                self.compile_seconds = self._since_began()
                self._intervals.open(step)
            pace.stepped(tick)
            stepped(step)
            if step == next_event or stop.signum is not None:
                state = self._event(step, state, totals, stop)
                totals = tools.empty()
                next_event = plan.calendar.after(step)
        self.saver.wait()
        return state

    def seconds(self) -> float:
        """Wall time of the run up to now, over all its sessions."""
        return self._seconds_before + self._since_began()

    def _since_began(self) -> float:
        return time.perf_counter() - self._began

    def _event(self, step: int, state: TrainState, totals: Totals, stop: Stop) -> TrainState:
        """Does what is due after `step`, and what a signal asks for; returns the state to go on with."""
        due, signum = self.plan.calendar.at(step), stop.signum
        self._intervals.close(step, totals)
        if due.evaluate or due.save or signum is not None:
            self._intervals.flush()
            best = False
            if due.evaluate and (value := self._evaluate(step, state)) is not None:
                state, best = self.tools.observe(state, value), self._is_best(step, value)
            if due.save or best or signum is not None:
                self._save(step, state)
            self._intervals.open(step)
        if signum is not None and step < self.plan.total_steps:
            self.saver.wait()
            raise Interrupted(
                f"stopped by {signal.Signals(signum).name} after step {step} of {self.plan.total_steps}; "
                "the state is saved, and the same command continues from there",
                signum,
            )
        return state

    def _evaluate(self, step: int, state: TrainState) -> float | None:
        """Evaluates the validation split, if there is one, and returns the metric by which the best is chosen."""
        if "validation" not in self.tools.arrays:
            return None
        metrics = self.tools.evaluate(*self.tools.evaluated(state), self.tools.arrays["validation"])
        epoch = round(self.plan.clock.epoch(step), 4)
        self.hooks.write({"step": step, "epoch": epoch, "split": "validation", **metrics})
        return metrics[self.plan.config.evaluation.best]

    def _is_best(self, step: int, value: float) -> bool:
        """Whether `value` is the best so far, which is noted."""
        best, higher = self.progress.best_value, self.plan.higher_is_better
        better = best is None or (value > best if higher else value < best)
        if better:
            self.progress = dataclasses.replace(self.progress, best_step=step, best_value=value)
        return better

    def _save(self, step: int, state: TrainState) -> None:
        if not self.tools.finite((state.params, state.variables)):
            raise Diverged(
                f"the parameters after step {step} are not finite, though the loss before was: training has diverged. "
                "The last finite checkpoint is kept",
                step,
            )
        self.progress = dataclasses.replace(self.progress, seconds=self.seconds())
        self.saver.save(state, step, self.progress)
