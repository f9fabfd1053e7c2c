"""The function `fit`, which trains a config in a run directory; `jaxtrain train` calls only this."""

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax

from jaxtrain.config import Config, config_name, digest, load_config
from jaxtrain.data.source import Split
from jaxtrain.data.splits import read_splits
from jaxtrain.distributed import processes
from jaxtrain.errors import CheckpointError, Diverged, Interrupted
from jaxtrain.reporting.reporter import Reporter, make_reporter
from jaxtrain.run import checkpoints
from jaxtrain.run import out_of_memory as memory
from jaxtrain.run.compilation_cache import enable_compilation_cache
from jaxtrain.run.compiled_run import CompiledRun, compile_run
from jaxtrain.run.data_wait import REPORTED_WAIT, data_wait_advice
from jaxtrain.run.directory import Workdir
from jaxtrain.run.loop import Hooks, Loop
from jaxtrain.run.out_of_memory import explain_out_of_memory
from jaxtrain.run.result import Metrics, Result, device_names, versions
from jaxtrain.run.session import (
    fit_or_read_normalization,
    lock_workdir,
    open_checkpointer,
    open_writers,
    restore_latest,
    restore_target,
)
from jaxtrain.run.signals import stop_on_signals
from jaxtrain.training.initialization import initialize_run
from jaxtrain.training.plan import Plan, add_training_colors, make_plan
from jaxtrain.training.state import TrainState, params_sha256
from jaxtrain.xla_cpu.keep_memory import keep_freed_memory


def default_workdir(config: str | Path | Config, resolved: Config) -> Path:
    """Return `runs/NAME-DIGEST`: the same command continues its run, and another config gets another directory."""
    return Path("runs") / f"{config_name(config)}-{digest(resolved)}"


def fit(
    config: str | Path | Config,
    workdir: str | Path | None = None,
    *,
    overrides: Iterable[str] = (),
    data_dir: str | Path | None = None,
    progress: bool = True,
    reporter: Reporter | None = None,
) -> Result:
    """Train `config` in `workdir`, or continue the run that is there, with bitwise the same result.

    This turns on jax's persistent compilation cache, unless the process has configured one or the variable
    JAXTRAIN_COMPILATION_CACHE is "off". It also makes malloc keep freed memory if jax has not started a backend yet
    (`jaxtrain/xla_cpu/keep_memory.py`), unless JAXTRAIN_KEEP_MEMORY is "off".

    The last two lines of the example take some seconds and write files, so the test suite skips them.

    Example:
      >>> import jaxtrain
      >>> data = jaxtrain.config.DataConfig(dataset="synthetic(height=4, width=4, train_examples=64)", batch_size=32)
      >>> config = jaxtrain.Config(model="linear", data=data, optimizer="sgd(0.1)", train_for="5 epochs")
      >>> result = jaxtrain.fit(config, "runs/example")  # doctest: +SKIP
      >>> result.status, result.step, sorted(result.final["test"])  # doctest: +SKIP
      ('finished', 10, ['accuracy', 'loss'])

    Args:
      config: a `Config`, the path of a config file, or the name of a shipped recipe.
      workdir: the run directory; None for `runs/NAME-DIGEST` in the current directory.
      overrides: changes of the config, `"path=value"` as on the command line.
      data_dir: the directory of data files, which takes precedence over `data.directory` and JAXTRAIN_DATA.
      progress: whether to show messages, metrics and a progress bar, as the command does. It changes no file.
      reporter: the reporter that displays messages and metrics; None for the one that `progress` says.

    Returns:
      The result, including the final state. The same numbers are in `result.json`.

    Raises:
      JaxtrainError: `ConfigError`, `DataError`, `WorkdirError`, `CheckpointError` or `OutOfMemory` if the run is not
        possible; `Diverged` if the loss is not finite; `Interrupted` if SIGTERM or SIGINT ended the run; `PeerDied` if
        another process of the run ended.
    """
    keep_freed_memory()
    with processes.watch_processes():
        resolved = load_config(config, overrides)
        return _fit(config, resolved, workdir, data_dir, reporter or make_reporter(progress=progress))


def _fit(
    config: str | Path | Config,
    resolved: Config,
    workdir: str | Path | None,
    data_dir: str | Path | None,
    reporter: Reporter,
) -> Result:
    directory = Workdir(Path(workdir) if workdir is not None else default_workdir(config, resolved))
    if processes.is_process_0():
        directory.check(resolved)
    enable_compilation_cache()
    plan = make_plan(resolved, data_dir)
    reporter.note(describe_run(plan, directory))
    with explain_out_of_memory(resolved, memory.DATA):
        # before the run directory exists, in case of damaged data
        splits = read_splits(plan.splits, tuple(plan.splits.sizes), resolved.seed)
    with lock_workdir(directory, resolved):
        return _train(plan, directory, reporter, splits)


def _train(plan: Plan, directory: Workdir, reporter: Reporter, splits: Mapping[str, Split]) -> Result:
    restored = restore_latest(plan, directory, reporter)
    normalization = fit_or_read_normalization(plan, directory, splits["train"])
    plan = add_training_colors(plan, splits["train"])
    with explain_out_of_memory(plan.config, memory.DATA):
        compiled = compile_run(plan, normalization, splits)
    if restored is None:
        with explain_out_of_memory(plan.config, memory.INITIALIZATION):
            state = initialize_run(plan, normalization, splits["train"])
        progress = checkpoints.Progress()
    else:
        state, progress = restored
    step = int(state.step)
    with (
        contextlib.closing(compiled.batches),
        open_checkpointer(plan, directory, -1 if restored is None else step) as saver,
        open_writers(plan, directory, reporter, step),
    ):
        hooks = Hooks(reporter.update_step, reporter.write, reporter.warn)
        loop = Loop(plan, compiled, saver, hooks, progress)
        try:
            with stop_on_signals() as stop, explain_out_of_memory(plan.config, memory.TRAINING):
                state = loop.run(state, stop)
            if loop.data_wait > REPORTED_WAIT:
                reporter.note(
                    data_wait_advice(loop.data_wait, plan.splits.workers, decoded=plan.splits.decode is not None)
                )
            with explain_out_of_memory(plan.config, memory.EVALUATION):
                final, best = compute_final_metrics(plan, compiled, loop, directory, reporter, state)
        except (Interrupted, Diverged) as error:
            if processes.is_process_0():
                _summarize_failure(plan, loop, directory, error).write(directory.result_file)
            raise
    result = dataclasses.replace(
        _summarize(plan, loop, directory, "finished", plan.total_steps),
        final=final,
        best=best,
        best_step=loop.progress.best_step,
        params_sha256=params_sha256(_replicate(plan, state.params)),
        state=state,
    )
    if processes.is_process_0():
        result.write(directory.result_file)
    return result


def _replicate(plan: Plan, params: Any) -> Any:
    """Return the parameters with all their parts in each process."""
    if processes.single_process():
        return params
    return plan.layout.jit(lambda x: x, out_shardings=plan.layout.replicated)(params)


def describe_run(plan: Plan, directory: Workdir) -> str:
    """Return a line with the model, data set, length and directory of the run."""
    sizes = ", ".join(f"{n:,} {split}" for split, n in plan.splits.sizes.items())
    count = sum(x.size for x in jax.tree.leaves(plan.abstract.params))
    return (
        f"{plan.config.model.name} ({count:,} parameters) on {plan.splits.dataset.name} ({sizes}) "
        f"for {plan.config.train_for} = {plan.total_steps} steps of {plan.clock.batch_size}; "
        f"run directory {directory.path}"
    )


def compute_final_metrics(
    plan: Plan, compiled: CompiledRun, loop: Loop, directory: Workdir, reporter: Reporter, state: TrainState
) -> tuple[Metrics, Metrics]:
    """Return the metrics by split of the final and of the best parameters; the test split is evaluated only here."""
    final = _metrics(compiled, state)
    best: Metrics = {}
    best_step = loop.progress.best_step
    if best_step is not None:
        best_state = state
        if best_step != plan.total_steps:
            if not processes.broadcast_from_process_0(lambda: _is_usable(directory, best_step, reporter)):
                return final, best
            best_state, _ = checkpoints.restore(directory.checkpoints, best_step, restore_target(plan), verify=False)
        best = _metrics(compiled, best_state)
    if "test" in final:
        epoch = round(plan.clock.epoch(plan.total_steps), 4)
        reporter.write({"step": plan.total_steps, "epoch": epoch, "split": "test", **final["test"]})
    return final, best


def _is_usable(directory: Workdir, step: int, reporter: Reporter) -> bool:
    try:
        checkpoints.read_manifest(directory.checkpoints, step)
    except CheckpointError as error:
        reporter.warn(f"the best checkpoint cannot be evaluated: {error}")
        return False
    return True


def _metrics(compiled: CompiledRun, state: TrainState) -> Metrics:
    """Return the metrics by split; all splits but the training split use the run's test-time augmentation."""
    params, variables = compiled.evaluated(state)
    return {
        name: (compiled.evaluate if name == "train" else compiled.evaluate_final)(params, variables, split)
        for name, split in compiled.splits.items()
    }


def _summarize(plan: Plan, loop: Loop, directory: Workdir, status: str, step: int) -> Result:
    return Result(
        status=status,
        workdir=directory.path,
        step=step,
        epochs=round(plan.clock.epoch(step), 4),
        wall_seconds=round(loop.seconds(), 3),
        compile_seconds=round(loop.compile_seconds, 3),
        versions=versions(),
        devices=device_names(plan.layout.mesh),
    )


def _summarize_failure(plan: Plan, loop: Loop, directory: Workdir, error: Interrupted | Diverged) -> Result:
    status, step = ("diverged", error.step) if isinstance(error, Diverged) else ("interrupted", loop.saver.last_step)
    summary = _summarize(plan, loop, directory, status, step)
    return dataclasses.replace(summary, message=str(error), best_step=loop.progress.best_step)
