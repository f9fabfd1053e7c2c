"""Where the time of a training step goes: traced by jax's profiler, and held against what the device can do."""

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from jaxtrain.analysis.cost import flops
from jaxtrain.analysis.device_peaks import PUBLISHED, Ceilings, Peak, measure_ceilings
from jaxtrain.analysis.traces import Trace, origins, read_trace
from jaxtrain.config import Config
from jaxtrain.data.splits import fit_normalization, read_splits
from jaxtrain.data.streaming import available_cores
from jaxtrain.errors import ConfigError, WorkdirError
from jaxtrain.run.compilation_cache import enable_compilation_cache
from jaxtrain.run.compiled_run import CompiledRun, compile_run
from jaxtrain.training.plan import Plan, make_plan, with_training_colors
from jaxtrain.training.state import initializer, jit_once

_WARM_UP = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profile:
    """What was found.

    Attributes:
      device: its kind, and `platform` "cpu", "gpu" or "tpu".
      devices: how many share a step.
      batch_size: examples in a step.
      steps: that were traced, one a dispatch.
      files: the directory that `tensorboard --logdir` takes.
      perfetto: the file for ui.perfetto.dev, if one was written.
      trace: what ran on the first device.
      origins: by operation, the place in the model, its gradient or the optimizer that it comes from.
      step_seconds: of a step without the profiler, one a dispatch, the host running ahead.
      together: how many steps `train` dispatches at a time at the most, and `together_seconds`, of a step when as many
        as were traced are made in one call; None where they are not.
      flops: of a step in products and convolutions, all devices together.
      bytes: read and written by the operations of a step on one device as XLA counts them, caches left out; None where
        it does not tell.
      cores: that were busy on average, on a CPU; of `cores_there`.
      ceilings: what one device was measured to do.
    """

    device: str
    platform: str
    devices: int
    batch_size: int
    steps: int
    files: Path
    perfetto: Path | None
    trace: Trace
    origins: Mapping[str, str]
    step_seconds: float
    together: int
    together_seconds: float | None
    flops: int
    bytes: float | None
    cores: float
    cores_there: int
    ceilings: Ceilings

    @property
    def best_seconds(self) -> float:
        """Of a step, dispatched as `train` does."""
        return self.step_seconds if self.together_seconds is None else min(self.step_seconds, self.together_seconds)

    @property
    def published(self) -> Peak | None:
        """What the device's maker states, None where that is not known."""
        return PUBLISHED.get(self.device)

    def utilization(self, dtype: str) -> float:
        """Model FLOPs utilization: FLOP/s of a step to those of the measured product of `dtype`, on all devices."""
        return self.flops / self.best_seconds / (self.devices * self.ceilings.flops[dtype])


def profile(config: Config, out: Path, steps: int = 10, data_dir: str | Path | None = None) -> Profile:
    """Trains a few steps to warm up, times and traces `steps` more, and writes the trace to the directory `out`.

    Raises:
      JaxtrainError: what `fit` raises for what cannot be run, and `WorkdirError` where `out` cannot be written.
    """
    if steps < 1:
        raise ConfigError(f"--steps {steps}: it must be >= 1")
    enable_compilation_cache()
    plan, compiled = _prepared(config, _WARM_UP + 3 * steps, data_dir)
    _make_directory(out)
    device = plan.layout.mesh.devices.flat[0]
    with contextlib.closing(compiled.batches):
        session = _Session(plan, compiled)
        session.run(_WARM_UP)
        step_seconds, cores = session.timed(steps)
        together_seconds = session.timed_together(steps) if compiled.multi_step is not None else None
        with _tracing(out):
            session.run(steps)
    found = max(out.rglob("*.xplane.pb"), key=lambda p: p.stat().st_mtime)
    name = "jit_loop_step" if compiled.multi_step is None else "jit_several_steps"
    return Profile(
        device=device.device_kind,
        platform=device.platform,
        devices=plan.layout.mesh.size,
        batch_size=plan.clock.batch_size,
        steps=steps,
        files=out,
        perfetto=next(iter(found.parent.glob("*.trace.json.gz")), None),
        trace=read_trace(found, name),
        origins=origins(session.program),
        step_seconds=step_seconds,
        together=plan.steps_per_call.most,
        together_seconds=together_seconds,
        flops=flops(plan.jaxpr.jaxpr),
        bytes=session.bytes,
        cores=cores,
        cores_there=available_cores(),
        ceilings=measure_ceilings(device),
    )


def _prepared(config: Config, needed: int, data_dir: str | Path | None) -> tuple[Plan, CompiledRun]:
    """The plan and compiled parts of the run, which is made long enough."""
    plan = make_plan(config, data_dir)
    if plan.total_steps < needed:
        plan = make_plan(config.replace(train_for=f"{needed} steps"), data_dir)
    splits = read_splits(plan.splits, ("train",), config.seed)
    plan = with_training_colors(plan, splits["train"])
    normalization = fit_normalization(plan.splits, splits["train"])
    return plan, compile_run(plan, normalization, splits)


def _make_directory(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkdirError(f"cannot write to {out}: {error.strerror or error}") from error


@contextlib.contextmanager
def _tracing(out: Path) -> Any:
    """Traces devices and the runtime, Python's own calls left out: these would slow the host that is watched."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    jax.profiler.start_trace(str(out), profiler_options=options)
    try:
        yield
    finally:
        jax.profiler.stop_trace()


class _Session:
    """A run that goes on by some steps at a time, through the program that `train` uses, compiled once."""

    def __init__(self, plan: Plan, compiled: CompiledRun):
        self._plan, self._parts = plan, compiled
        make = initializer(plan.model, plan.optimizer.tx, plan.splits.image_shape, plan.config.seed)
        self._state: Any = jit_once(make, plan.layout.of_state(plan.abstract))()
        self._totals: Any = compiled.empty()
        self._step = 0
        self.bytes: float | None = None
        self.program = ""
        self._dispatch: Callable[..., Any] = self._compiled()

    def _compiled(self) -> Any:
        """The program as an object that knows what it costs; to call the function besides would compile it twice."""
        lowered = self._parts.lower(self._state)
        if lowered is None:
            return self._parts.program
        compiled = lowered.compile()
        self.bytes, self.program = (compiled.cost_analysis() or {}).get("bytes accessed"), compiled.as_text()
        return compiled

    def run(self, steps: int, together: int = 1) -> None:
        """Makes `steps` steps and waits for them."""
        tick, end = None, self._step + steps
        while self._step < end:
            order = self._parts.order.order(self._step)
            count = min(together, end - self._step, self._parts.order.until - self._step)
            given = (self._state, self._totals, order, self._parts.batches(self._step))
            extra = () if self._parts.multi_step is None else (self._parts.multi_step.count(count),)
            self._state, self._totals, tick = self._dispatch(*given, *extra)
            self._step += count
            if self._plan.layout.steps_ahead == 1:
                tick.block_until_ready()
        jax.block_until_ready(tick)

    def timed(self, steps: int) -> tuple[float, float]:
        """Median seconds of a step over three parts of `steps`, and how many cores were busy."""
        parts, cores = [], []
        for part in (steps // 3, (steps + 1) // 3, (steps + 2) // 3):
            if part:
                began, busy = time.perf_counter(), time.process_time()
                self.run(part)
                seconds = time.perf_counter() - began
                parts.append(seconds / part)
                cores.append((time.process_time() - busy) / seconds)
        return statistics.median(parts), statistics.median(cores)

    def timed_together(self, steps: int) -> float:
        """Seconds of a step when all are dispatched together, where the order of the examples allows."""
        began = time.perf_counter()
        self.run(steps, together=steps)
        return (time.perf_counter() - began) / steps
