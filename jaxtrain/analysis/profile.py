"""Profile of training steps: a trace by jax's profiler, timings, and a comparison with the device's peak speeds."""

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from jaxtrain.analysis.cost import flops
from jaxtrain.analysis.device_peaks import DATA_SHEETS, DataSheetPeaks, MeasuredPeaks, measure_peaks
from jaxtrain.analysis.traces import Trace, operation_origins, read_trace
from jaxtrain.config import Config
from jaxtrain.data.splits import fit_normalization, read_splits
from jaxtrain.data.streaming import available_cores
from jaxtrain.errors import ConfigError, WorkdirError
from jaxtrain.run.compilation_cache import enable_compilation_cache
from jaxtrain.run.compiled_run import CompiledRun, compile_run
from jaxtrain.training.plan import Plan, add_training_colors, make_plan
from jaxtrain.training.state import jit_for_one_call, state_initializer

_WARM_UP = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profile:
    """The results of profiling.

    Attributes:
      device: kind of the devices.
      platform: "cpu", "gpu" or "tpu".
      devices: number of devices that share a step.
      batch_size: number of examples in a step.
      steps: number of traced steps, one per dispatch.
      files: directory of the trace, for `tensorboard --logdir`.
      perfetto: file for ui.perfetto.dev, or None if none was written.
      trace: operations and runs on the first device.
      origins: position in the model, its gradient or the optimizer that an operation comes from, by operation.
      step_seconds: seconds per step without the profiler, with one step per dispatch and the host running ahead.
      together: largest number of steps that `train` dispatches at once.
      together_seconds: seconds per step when all `steps` are dispatched at once; None where `train` does not do so.
      flops: FLOPs of a step in matrix multiplications and convolutions, of all devices together.
      bytes: bytes that the operations of a step read and write on one device, by XLA's count, which ignores caches;
        None where XLA gives no count.
      cores: average number of busy cores, on a CPU.
      cores_there: number of available cores.
      ceilings: measured peak speeds of one device.
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
    ceilings: MeasuredPeaks

    @property
    def best_seconds(self) -> float:
        """The seconds per step, in the faster way of dispatching."""
        return self.step_seconds if self.together_seconds is None else min(self.step_seconds, self.together_seconds)

    @property
    def published(self) -> DataSheetPeaks | None:
        """The peak speeds in the device's data sheet, or None if they are unknown."""
        return DATA_SHEETS.get(self.device)

    def utilization(self, dtype: str) -> float:
        """Return the model FLOPs utilization: FLOP/s of a step relative to the devices' measured peak in `dtype`."""
        return self.flops / self.best_seconds / (self.devices * self.ceilings.flops[dtype])


def profile(config: Config, out: Path, steps: int = 10, data_dir: str | Path | None = None) -> Profile:
    """Train a few steps to warm up, time and trace `steps` more, and write the trace to the directory `out`.

    Raises:
      JaxtrainError: the config cannot be run (as in `fit`), or `out` cannot be written (`WorkdirError`).
    """
    if steps < 1:
        raise ConfigError(f"--steps {steps}: it must be >= 1")
    enable_compilation_cache()
    plan, compiled = _prepare(config, _WARM_UP + 3 * steps, data_dir)
    _make_directory(out)
    device = plan.layout.mesh.devices.flat[0]
    with contextlib.closing(compiled.batches):
        session = _Session(plan, compiled)
        session.run(_WARM_UP)
        step_seconds, cores = session.time_steps(steps)
        together_seconds = session.time_one_dispatch(steps) if compiled.multi_step is not None else None
        with _record_trace(out):
            session.run(steps)
    trace_file = max(out.rglob("*.xplane.pb"), key=lambda p: p.stat().st_mtime)
    name = "jit_loop_step" if compiled.multi_step is None else "jit_several_steps"
    return Profile(
        device=device.device_kind,
        platform=device.platform,
        devices=plan.layout.mesh.size,
        batch_size=plan.clock.batch_size,
        steps=steps,
        files=out,
        perfetto=next(iter(trace_file.parent.glob("*.trace.json.gz")), None),
        trace=read_trace(trace_file, name),
        origins=operation_origins(session.program),
        step_seconds=step_seconds,
        together=plan.steps_per_call.most,
        together_seconds=together_seconds,
        flops=flops(plan.jaxpr.jaxpr),
        bytes=session.bytes,
        cores=cores,
        cores_there=available_cores(),
        ceilings=measure_peaks(device),
    )


def _prepare(config: Config, needed: int, data_dir: str | Path | None) -> tuple[Plan, CompiledRun]:
    """Return the plan and the compiled run; the run is lengthened to at least `needed` steps."""
    plan = make_plan(config, data_dir)
    if plan.total_steps < needed:
        plan = make_plan(config.replace(train_for=f"{needed} steps"), data_dir)
    splits = read_splits(plan.splits, ("train",), config.seed)
    plan = add_training_colors(plan, splits["train"])
    normalization = fit_normalization(plan.splits, splits["train"])
    return plan, compile_run(plan, normalization, splits)


def _make_directory(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkdirError(f"cannot write to {out}: {error.strerror or error}") from error


@contextlib.contextmanager
def _record_trace(out: Path) -> Any:
    """Record a trace of the devices and the runtime, without Python calls, whose tracing would slow the host."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    jax.profiler.start_trace(str(out), profiler_options=options)
    try:
        yield
    finally:
        jax.profiler.stop_trace()


class _Session:
    """A run that takes steps on request, with the program that `train` uses, compiled once."""

    def __init__(self, plan: Plan, compiled: CompiledRun):
        self._plan, self._parts = plan, compiled
        make = state_initializer(plan.model, plan.optimizer.tx, plan.splits.image_shape, plan.config.seed)
        self._state: Any = jit_for_one_call(make, plan.layout.of_state(plan.abstract))()
        self._totals: Any = compiled.empty()
        self._step = 0
        self.bytes: float | None = None
        self.program = ""
        self._dispatch: Callable[..., Any] = self._compile()

    def _compile(self) -> Any:
        """Compile the program, store its HLO and bytes, and return it. Calling the jitted function would recompile."""
        lowered = self._parts.lower(self._state)
        if lowered is None:
            return self._parts.program
        compiled = lowered.compile()
        self.bytes, self.program = (compiled.cost_analysis() or {}).get("bytes accessed"), compiled.as_text()
        return compiled

    def run(self, steps: int, together: int = 1) -> None:
        """Take `steps` steps, at most `together` per dispatch, and wait for them."""
        tick, end = None, self._step + steps
        while self._step < end:
            order = self._parts.order.order(self._step)
            count = min(together, end - self._step, self._parts.order.until - self._step)
            arguments = (self._state, self._totals, order, self._parts.batches(self._step))
            extra = () if self._parts.multi_step is None else (self._parts.multi_step.count(count),)
            self._state, self._totals, tick = self._dispatch(*arguments, *extra)
            self._step += count
            if self._plan.layout.steps_ahead == 1:
                tick.block_until_ready()
        jax.block_until_ready(tick)

    def time_steps(self, steps: int) -> tuple[float, float]:
        """Return the seconds per step and the number of busy cores, as medians over three parts of `steps`."""
        step_seconds, cores = [], []
        for count in (steps // 3, (steps + 1) // 3, (steps + 2) // 3):
            if count:
                began, busy = time.perf_counter(), time.process_time()
                self.run(count)
                seconds = time.perf_counter() - began
                step_seconds.append(seconds / count)
                cores.append((time.process_time() - busy) / seconds)
        return statistics.median(step_seconds), statistics.median(cores)

    def time_one_dispatch(self, steps: int) -> float:
        """Return the seconds per step when all are dispatched at once; the order of the examples may split them."""
        began = time.perf_counter()
        self.run(steps, together=steps)
        return (time.perf_counter() - began) / steps
