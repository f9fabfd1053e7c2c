"""`fit`: a config and a directory in, a trained model and its result out. `jaxtrain train` calls nothing else."""

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
from jaxtrain.reporting.reporter import Reporter, quiet
from jaxtrain.run import checkpoints
from jaxtrain.run import out_of_memory as memory
from jaxtrain.run.compilation_cache import enable_compilation_cache
from jaxtrain.run.compiled_run import CompiledRun, compile_run
from jaxtrain.run.data_wait import WORTH_SAYING, advice
from jaxtrain.run.directory import Workdir
from jaxtrain.run.loop import Hooks, Loop
from jaxtrain.run.out_of_memory import explained
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
from jaxtrain.training.initialization import initial_state
from jaxtrain.training.plan import Plan, make_plan, with_training_colors
from jaxtrain.training.state import TrainState, params_sha256
from jaxtrain.xla_cpu.keep_memory import keep_freed_memory


def default_workdir(config: str | Path | Config, resolved: Config) -> Path:
    """`runs/NAME-DIGEST`: the same command finds its run again, and another config gets another directory."""
    return Path("runs") / f"{config_name(config)}-{digest(resolved)}"


def fit(
    config: str | Path | Config,
    workdir: str | Path | None = None,
    *,
    overrides: Iterable[str] = (),
    data_dir: str | Path | None = None,
    reporter: Reporter | None = None,
) -> Result:
    """Trains `config` in `workdir`, or continues the run that is there, to bitwise the same end.

    Turns jax's persistent compilation cache on, unless the process has configured one or the variable
    JAXTRAIN_COMPILATION_CACHE says "off". Has malloc keep freed memory where jax has not started a backend yet
    (`jaxtrain/xla_cpu/keep_memory.py`), unless JAXTRAIN_KEEP_MEMORY says "off".

    Args:
      config: a `Config`, the path of a config file, or the name of a shipped recipe.
      workdir: the run directory; `runs/NAME-DIGEST` in the current directory for None.
      overrides: `"path=value"`, as on the command line.
      data_dir: where data files are looked for, before `data.directory` and the variable JAXTRAIN_DATA.
      reporter: what is told of the run besides its files; nothing for None.

    Returns:
      The result, its state included. The same numbers are in `result.json`.

    Raises:
      JaxtrainError: `ConfigError`, `DataError`, `WorkdirError` and `CheckpointError` for what cannot be run as it
        stands, `Diverged` for a loss that is not finite, `Interrupted` when SIGTERM or SIGINT ended it.
    """
    keep_freed_memory()
    with processes.watch_processes():
        resolved = load_config(config, overrides)
        return _fit(config, resolved, workdir, data_dir, reporter or quiet())


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
    with explained(resolved, memory.DATA):
        splits = read_splits(plan.splits, tuple(plan.splits.sizes), resolved.seed)  # damaged data leaves nothing behind
    with lock_workdir(directory, resolved):
        return _train(plan, directory, reporter, splits)


def _train(plan: Plan, directory: Workdir, reporter: Reporter, splits: Mapping[str, Split]) -> Result:
    found = restore_latest(plan, directory, reporter)
    normalization = fit_or_read_normalization(plan, directory, splits["train"])
    plan = with_training_colors(plan, splits["train"])
    with explained(plan.config, memory.DATA):
        compiled = compile_run(plan, normalization, splits)
    if found is None:
        with explained(plan.config, memory.INITIALIZATION):
            state = initial_state(plan, normalization, splits["train"])
        progress = checkpoints.Progress()
    else:
        state, progress = found
    step = int(state.step)
    with (
        contextlib.closing(compiled.batches),
        open_checkpointer(plan, directory, -1 if found is None else step) as saving,
        open_writers(plan, directory, reporter, step),
    ):
        hooks = Hooks(reporter.stepped, reporter.write, reporter.warn)
        loop = Loop(plan, compiled, saving, hooks, progress)
        try:
            with stop_on_signals() as stop, explained(plan.config, memory.TRAINING):
                state = loop.run(state, stop)
            if loop.data_wait > WORTH_SAYING:
                reporter.note(advice(loop.data_wait, plan.splits.workers, decoded=plan.splits.host is not None))
            with explained(plan.config, memory.EVALUATION):
                final, best = _final_metrics(plan, compiled, loop, directory, reporter, state)
        except (Interrupted, Diverged) as error:
            if processes.is_process_0():
                _unfinished(plan, loop, directory, error).write(directory.result_file)
            raise
    result = dataclasses.replace(
        _summary(plan, loop, directory, "finished", plan.total_steps),
        final=final,
        best=best,
        best_step=loop.progress.best_step,
        params_sha256=params_sha256(_whole(plan, state.params)),
        state=state,
    )
    if processes.is_process_0():
        result.write(directory.result_file)
    return result


def _whole(plan: Plan, params: Any) -> Any:
    """Parameters of which each process has every part."""
    if processes.single_process():
        return params
    return plan.layout.jit(lambda x: x, out_shardings=plan.layout.replicated)(params)


def describe_run(plan: Plan, directory: Workdir) -> str:
    """One line that says what is trained on what, for how long and where."""
    sizes = ", ".join(f"{n:,} {split}" for split, n in plan.splits.sizes.items())
    count = sum(x.size for x in jax.tree.leaves(plan.abstract.params))
    return (
        f"{plan.config.model.name} ({count:,} parameters) on {plan.splits.dataset.name} ({sizes}) "
        f"for {plan.config.train_for} = {plan.total_steps} steps of {plan.clock.batch_size}; "
        f"run directory {directory.path}"
    )


def _final_metrics(
    plan: Plan, compiled: CompiledRun, loop: Loop, directory: Workdir, reporter: Reporter, state: TrainState
) -> tuple[Metrics, Metrics]:
    """Metrics by split of the final and of the best parameters; the test split is looked at here and only here."""
    final = _metrics(compiled, state)
    best: Metrics = {}
    best_step = loop.progress.best_step
    if best_step is not None:
        chosen = state
        if best_step != plan.total_steps:
            if not processes.broadcast_from_process_0(lambda: _is_usable(directory, best_step, reporter)):
                return final, best
            chosen, _ = checkpoints.restore(directory.checkpoints, best_step, restore_target(plan), verify=False)
        best = _metrics(compiled, chosen)
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
    """By split: the training split as it is, the others with the test-time augmentation of the run."""
    params, variables = compiled.evaluated(state)
    return {
        name: (compiled.evaluate if name == "train" else compiled.evaluate_final)(params, variables, split)
        for name, split in compiled.splits.items()
    }


def _summary(plan: Plan, loop: Loop, directory: Workdir, status: str, step: int) -> Result:
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


def _unfinished(plan: Plan, loop: Loop, directory: Workdir, error: Interrupted | Diverged) -> Result:
    status, step = ("diverged", error.step) if isinstance(error, Diverged) else ("interrupted", loop.saver.last_step)
    summary = _summary(plan, loop, directory, status, step)
    return dataclasses.replace(summary, message=str(error), best_step=loop.progress.best_step)
