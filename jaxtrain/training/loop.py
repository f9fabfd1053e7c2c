"""The training loop. After each step, in this order: metrics are logged, the validation split is evaluated, the state
is saved; each when it is due. Whatever is due at a step depends on the step alone, so a continued run does the same.
"""  # noqa: D205

import collections
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxtrain.data.loader import Arrays, Shuffle
from jaxtrain.errors import Diverged, Interrupted
from jaxtrain.training.checkpoints import Progress, Saver
from jaxtrain.training.evaluation import Evaluate
from jaxtrain.training.intervals import Intervals, Record
from jaxtrain.training.metrics import Totals
from jaxtrain.training.plan import Plan
from jaxtrain.training.signals import Stop
from jaxtrain.training.state import TrainState
from jaxtrain.training.step import Dispatch


@dataclasses.dataclass(frozen=True)
class Tools:
    """The compiled parts of a run, and its data on the device."""

    dispatch: Dispatch
    empty: Callable[[], Totals]
    finite: Callable[[Any], jax.Array]
    evaluate: Evaluate
    shuffle: Shuffle
    arrays: dict[str, Arrays]


@dataclasses.dataclass(frozen=True)
class Hooks:
    """Where the loop tells what happens: each finished step, and each record of metrics."""

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
        self._began = time.perf_counter()
        self._seconds_before = progress.seconds

    def run(self, state: TrainState, stop: Stop) -> TrainState:
        """Trains `state` (which is given away) to the end of the plan.

        Raises `Interrupted` after saving when `stop` asks for it, and `Diverged`, without saving, when the loss or
        the parameters are no longer finite.
        """
        plan, tools = self.plan, self.tools
        step, total, train = int(state.step), plan.total_steps, tools.arrays["train"]
        intervals = Intervals(plan.clock, self.hooks.write)
        totals = tools.empty()
        in_flight: collections.deque[jax.Array] = collections.deque()
        intervals.open(step)
        first = True
        while step < total:
            state, totals, tick = tools.dispatch(state, totals, tools.shuffle.order(step), train)
            step += 1
            if first:
                self.compile_seconds = self._since_began()
                intervals.open(step)
                first = False
            in_flight.append(tick)
            if len(in_flight) > plan.layout.in_flight:
                in_flight.popleft().block_until_ready()
            self.hooks.stepped(step)
            stopping = stop.signum is not None
            evaluate = step % plan.evaluate_every == 0 or step == total
            save = step % plan.checkpoint_every == 0 or step == total or stopping
            if evaluate or save or step % plan.log_every == 0:
                intervals.close(step, totals)
                totals = tools.empty()
            if evaluate or save:
                intervals.flush()
                save |= evaluate and self._evaluate(state, step)
                if save:
                    self._save(state, step)
                intervals.open(step)
            if stopping and step < total:
                self._interrupted(step, stop)
        self.saver.wait()
        return state

    def _since_began(self) -> float:
        return time.perf_counter() - self._began

    def seconds(self) -> float:
        """Wall time of the run up to now, over all its sessions."""
        return self._seconds_before + self._since_began()

    def _evaluate(self, state: TrainState, step: int) -> bool:
        """Evaluates the validation split, if there is one; whether it is the best so far."""
        if "validation" not in self.tools.arrays:
            return False
        metrics = self.tools.evaluate(state.params, state.variables, self.tools.arrays["validation"])
        epoch = round(self.plan.clock.epoch(step), 4)
        self.hooks.write({"step": step, "epoch": epoch, "split": "validation", **metrics})
        name = self.plan.config.evaluation.best
        value, best = metrics[name], self.progress.best_value
        better = best is None or (value < best if name == "loss" else value > best)
        if better:
            self.progress = dataclasses.replace(self.progress, best_step=step, best_value=value)
        return better

    def _save(self, state: TrainState, step: int) -> None:
        if not self.tools.finite((state.params, state.variables)):
            raise Diverged(
                f"the parameters after step {step} are not finite, though the loss before was: training has diverged. "
                "The last finite checkpoint is kept",
                step,
            )
        self.progress = dataclasses.replace(self.progress, seconds=self.seconds())
        self.saver.save(state, step, self.progress)

    def _interrupted(self, step: int, stop: Stop) -> None:
        self.saver.wait()
        signum = stop.signum or 0
        name = {2: "SIGINT", 15: "SIGTERM"}.get(signum, f"signal {signum}")
        raise Interrupted(
            f"stopped by {name} after step {step} of {self.plan.total_steps}; the state is saved, "
            "and the same command continues from there",
            signum,
        )


def make_empty(plan: Plan) -> Callable[[], Totals]:
    """A compiled maker of fresh totals, laid out as the step gives them, so that the step is compiled once."""
    from jaxtrain.training.metrics import empty_totals

    return jax.jit(empty_totals, out_shardings=plan.layout.replicated)


def make_finite() -> Callable[[Any], jax.Array]:
    """A compiled check that a tree holds no NaN or infinity."""
    from jaxtrain.training.state import all_finite

    return jax.jit(lambda tree: all_finite(tree) & jnp.bool_(True))
