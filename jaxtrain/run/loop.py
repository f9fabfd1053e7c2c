"""The training loop.

After a step it logs metrics, evaluates the validation split and saves the state, in this order, each if it is due.
"""

import dataclasses
import signal
import time
from collections.abc import Callable

import jax

from jaxtrain.errors import Diverged, Interrupted
from jaxtrain.run.checkpoints import Checkpointer, Progress
from jaxtrain.run.compiled_run import CompiledRun
from jaxtrain.run.intervals import LogIntervals, Record
from jaxtrain.run.out_of_memory import EVALUATION, explain_out_of_memory
from jaxtrain.run.pace import Pace
from jaxtrain.run.signals import StopRequest
from jaxtrain.training.plan import Plan
from jaxtrain.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Hooks:
    """The functions that the loop calls.

    Attributes:
      on_step: function that receives the number of dispatched steps, after each dispatch.
      write: function that receives each record of metrics.
      warn: function that receives warnings.
    """

    on_step: Callable[[int], None]
    write: Callable[[Record], None]
    warn: Callable[[str], None] = lambda _: None


class Loop:
    """One session of a run: from the step of its state to the end of the run, or to a signal.

    Args:
      plan: the plan of the run.
      compiled: the compiled functions of the run and its data.
      saver: the writer of checkpoints.
      hooks: the functions that the loop calls with metrics and warnings.
      progress: the progress at the start of the session.
    """

    def __init__(self, plan: Plan, compiled: CompiledRun, saver: Checkpointer, hooks: Hooks, progress: Progress):
        self.plan = plan
        self.compiled = compiled
        self.saver = saver
        self.hooks = hooks
        self.progress = progress
        self.compile_seconds = 0.0
        self._programs: int | None = None
        waits = compiled.batches.seconds_waited is not None
        self._intervals = LogIntervals(plan.clock, hooks.write, self._seconds_waited if waits else None)
        self._start = time.perf_counter()
        self._seconds_before = progress.seconds

    def run(self, state: TrainState, stop: StopRequest) -> TrainState:
        """Train `state`, which is donated, to the end of the plan, and return the final state.

        Raises:
          Interrupted: a signal arrived; the state is saved.
          Diverged: the loss or the parameters are no longer finite; the state is not saved.
        """
        plan, compiled, on_step = self.plan, self.compiled, self.hooks.on_step
        pace = Pace(plan.layout.steps_ahead, plan.steps_per_call, idle_only=not plan.layout.on_cpu)
        step = start = int(state.step)
        totals, count = compiled.empty(), 1
        next_event = plan.events.after(step)
        while step < plan.total_steps:
            arguments = (state, totals, compiled.order.order(step), compiled.batches(step))
            if compiled.multi_step is None:
                state, totals, tick = compiled.dispatch(*arguments)
                compiled.batches.mark_dispatched(tick)
            else:
                state, totals, tick = compiled.multi_step(*arguments, count)
            if step == start:  # this call compiled the step
                self.compile_seconds = self._seconds_since_start()
                self._intervals.open(step + 1)
            step += count
            pace.throttle(tick, count)
            on_step(step)
            due, signum = step == next_event, None
            if due:
                next_event = plan.events.after(step)
            if step < plan.total_steps:
                count = self._next_count(step, min(pace.steps, next_event - step))
                signum = stop.poll()
            if due or signum is not None:
                numbers, totals = compiled.turn(totals)
                state = self._handle_event(step, state, numbers, signum)
                pace.resume()
        self.saver.wait()
        return state

    def _next_count(self, step: int, most: int) -> int:
        """Return the number of steps to dispatch after `step`, all of them within one order of the examples."""
        if self.compiled.multi_step is None:
            return 1
        self.compiled.order.order(step)
        return min(most, self.compiled.order.until - step)

    def seconds(self) -> float:
        """Return the wall time of the run so far, over all sessions."""
        return self._seconds_before + self._seconds_since_start()

    @property
    def data_wait(self) -> float:
        """The fraction of the training time for which the devices waited for data; 0 for data in memory."""
        return self._intervals.seconds_waited / self._intervals.seconds if self._intervals.seconds else 0.0

    def _seconds_waited(self) -> float:
        return self.compiled.batches.seconds_waited or 0.0

    def _seconds_since_start(self) -> float:
        return time.perf_counter() - self._start

    def _handle_event(self, step: int, state: TrainState, numbers: jax.Array, signum: int | None) -> TrainState:
        """Log, evaluate and save what is due after `step`, and return the state.

        Args:
          step: the number of steps so far.
          state: the state after `step`.
          numbers: the packed totals of the interval that ends at `step`.
          signum: the signal that stops the run, or None.

        Raises:
          Interrupted: `signum` is not None; the state is saved.
        """
        due = self.plan.events.at(step)
        self._warn_if_recompiled(step)
        self._intervals.close(step, numbers)
        if due.evaluate or due.save or signum is not None:
            self._intervals.flush()
            best = False
            if due.evaluate and (value := self._evaluate(step, state)) is not None:
                state, best = self.compiled.observe(state, value), self._update_best(step, value)
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

    def _warn_if_recompiled(self, step: int) -> None:
        """Warn if the training step was compiled again since the last call."""
        programs = self.compiled.count_programs()
        if self._programs is not None and programs > self._programs:
            self.hooks.warn(
                f"the training step was compiled again before step {step}, because an argument changed its shape, "
                "dtype or sharding. The results are correct, but the run is slower; please report this bug of jaxtrain"
            )
        self._programs = programs

    def _evaluate(self, step: int, state: TrainState) -> float | None:
        """Evaluate the validation split and return the metric that selects the best step; None without such a split."""
        if "validation" not in self.compiled.splits:
            return None
        with explain_out_of_memory(self.plan.config, EVALUATION):
            metrics = self.compiled.evaluate(*self.compiled.evaluated(state), self.compiled.splits["validation"])
        epoch = round(self.plan.clock.epoch(step), 4)
        self.hooks.write({"step": step, "epoch": epoch, "split": "validation", **metrics})
        return metrics[self.plan.config.evaluation.best]

    def _update_best(self, step: int, value: float) -> bool:
        """Return whether `value` is the best so far, and record it if it is."""
        best, higher = self.progress.best_value, self.plan.higher_is_better
        better = best is None or (value > best if higher else value < best)
        if better:
            self.progress = dataclasses.replace(self.progress, best_step=step, best_value=value)
        return better

    def _save(self, step: int, state: TrainState) -> None:
        if not jax.device_get(self.compiled.finite((state.params, state.variables))):
            raise Diverged(
                f"the parameters after step {step} are not finite, although the loss was: training has diverged. "
                "The last finite checkpoint is kept",
                step,
            )
        self.progress = dataclasses.replace(self.progress, seconds=self.seconds())
        self.saver.save(state, step, self.progress)
