"""The training loop. After each step, in this order: metrics are logged, the validation split is evaluated, the state
is saved; each when it is due.
"""

import dataclasses
import signal
import time
from collections.abc import Callable

import jax

from jaxtrain.errors import Diverged, Interrupted
from jaxtrain.run.checkpoints import Progress, Saver
from jaxtrain.run.compiled_run import CompiledRun
from jaxtrain.run.intervals import Intervals, Record
from jaxtrain.run.out_of_memory import EVALUATION, explained
from jaxtrain.run.pace import Pace
from jaxtrain.run.signals import Stop
from jaxtrain.training.plan import Plan
from jaxtrain.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Hooks:
    """Where the loop tells what happens: how many steps are dispatched, and each record of metrics."""

    stepped: Callable[[int], None]
    write: Callable[[Record], None]
    warn: Callable[[str], None] = lambda _: None


class Loop:
    """One session of a run: from the step its state stands at to the end, or to a signal."""

    def __init__(self, plan: Plan, compiled: CompiledRun, saver: Saver, hooks: Hooks, progress: Progress):
        self.plan = plan
        self.compiled = compiled
        self.saver = saver
        self.hooks = hooks
        self.progress = progress
        self.compile_seconds = 0.0
        self._programs: int | None = None
        waits = compiled.batches.seconds_waited is not None
        self._intervals = Intervals(plan.clock, hooks.write, self._waited if waits else None)
        self._began = time.perf_counter()
        self._seconds_before = progress.seconds

    def run(self, state: TrainState, stop: Stop) -> TrainState:
        """Trains `state` (which is given away) to the end of the plan.

        Raises `Interrupted` after saving when `stop` asks for it, and `Diverged`, without saving, when the loss or
        the parameters are no longer finite.
        """
        plan, compiled, stepped = self.plan, self.compiled, self.hooks.stepped
        pace = Pace(plan.layout.steps_ahead, plan.steps_per_call, idle_only=not plan.layout.on_cpu)
        step = start = int(state.step)
        totals, count = compiled.empty(), 1
        next_event = plan.events.after(step)
        while step < plan.total_steps:
            given = (state, totals, compiled.order.order(step), compiled.batches(step))
            if compiled.multi_step is None:
                state, totals, tick = compiled.dispatch(*given)
                compiled.batches.dispatched(tick)
            else:
                state, totals, tick = compiled.multi_step(*given, count)
            if step == start:  # the call that compiles
                self.compile_seconds = self._since_began()
                self._intervals.open(step + 1)
            step += count
            pace.stepped(tick, count)
            stepped(step)
            due, signum = step == next_event, None
            if due:
                next_event = plan.events.after(step)
            if step < plan.total_steps:
                count = self._next_count(step, min(pace.steps, next_event - step))
                signum = stop.poll()
            if due or signum is not None:
                numbers, totals = compiled.turn(totals)
                state = self._event(step, state, numbers, signum)
                pace.resume()
        self.saver.wait()
        return state

    def _next_count(self, step: int, most: int) -> int:
        """How many steps to dispatch after `step`, so that one order of the examples holds them all."""
        if self.compiled.multi_step is None:
            return 1
        self.compiled.order.order(step)
        return min(most, self.compiled.order.until - step)

    def seconds(self) -> float:
        """Wall time of the run up to now, over all its sessions."""
        return self._seconds_before + self._since_began()

    @property
    def data_wait(self) -> float:
        """Share of the time of training for which the devices waited for data; 0 where it is held in memory."""
        return self._intervals.seconds_waited / self._intervals.seconds if self._intervals.seconds else 0.0

    def _waited(self) -> float:
        return self.compiled.batches.seconds_waited or 0.0

    def _since_began(self) -> float:
        return time.perf_counter() - self._began

    def _event(self, step: int, state: TrainState, numbers: jax.Array, signum: int | None) -> TrainState:
        """Does what is due after `step`, whose interval has `numbers`, and what a signal asks for; gives the state."""
        due = self.plan.events.at(step)
        self._look_for_compiles(step)
        self._intervals.close(step, numbers)
        if due.evaluate or due.save or signum is not None:
            self._intervals.flush()
            best = False
            if due.evaluate and (value := self._evaluate(step, state)) is not None:
                state, best = self.compiled.observe(state, value), self._is_best(step, value)
            if due.save or best or signum is not None:
                self._save(step, state)
            self._intervals.open(step)
        if signum is not None:
            self.saver.wait()
            raise Interrupted(
                f"stopped by {signal.Signals(signum).name} after step {step} of {self.plan.total_steps}; "
                "the state is saved, and the same command continues from there",
                signum,
            )
        return state

    def _look_for_compiles(self, step: int) -> None:
        """Warns, once, when the step has been compiled again since the first time it was looked at."""
        programs = self.compiled.count_programs()
        if self._programs is not None and programs > self._programs:
            self.hooks.warn(
                f"the training step was compiled again before step {step}: something it is given has changed shape, "
                "dtype or sharding. The results are right, the time is lost; this is a defect of jaxtrain"
            )
        self._programs = programs

    def _evaluate(self, step: int, state: TrainState) -> float | None:
        """Evaluates the validation split, if there is one, and returns the metric by which the best is chosen."""
        if "validation" not in self.compiled.splits:
            return None
        with explained(self.plan.config, EVALUATION):
            metrics = self.compiled.evaluate(*self.compiled.evaluated(state), self.compiled.splits["validation"])
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
        if not jax.device_get(self.compiled.finite((state.params, state.variables))):
            raise Diverged(
                f"the parameters after step {step} are not finite, though the loss before was: training has diverged. "
                "The last finite checkpoint is kept",
                step,
            )
        self.progress = dataclasses.replace(self.progress, seconds=self.seconds())
        self.saver.save(state, step, self.progress)
