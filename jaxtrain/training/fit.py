"""`fit`: a config and a directory in, a trained model and its result out. The command line calls nothing else."""

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from jaxtrain.config import Config, config_name, digest, load_config
from jaxtrain.data.dataset import ArraySource
from jaxtrain.data.preprocessing.base import Preprocessing
from jaxtrain.data.splits import fit_normalization, fits_normalization, load_splits, stream_splits
from jaxtrain.data.streaming import StreamedSplit
from jaxtrain.errors import CheckpointError, DataError, Diverged, Interrupted
from jaxtrain.reporting.reporter import Reporter, quiet
from jaxtrain.training import checkpoints
from jaxtrain.training.compilation import enable_compilation_cache, jit_once
from jaxtrain.training.loop import Hooks, Loop, Tools
from jaxtrain.training.plan import Plan, make_plan, with_training_colors
from jaxtrain.training.result import Metrics, Result, device_names, versions
from jaxtrain.training.signals import stop_on_signals
from jaxtrain.training.state import TrainState, initializer, params_sha256
from jaxtrain.training.streamed import place_splits
from jaxtrain.training.tools import make_tools
from jaxtrain.training.workdir import Workdir


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
    JAXTRAIN_COMPILATION_CACHE says "off".

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
    resolved = load_config(config, overrides)
    directory = Workdir(Path(workdir) if workdir is not None else default_workdir(config, resolved))
    reporter = reporter or quiet()
    directory.check(resolved)
    enable_compilation_cache()
    plan = make_plan(resolved, data_dir)
    reporter.note(describe_run(plan, directory))
    read = load_splits if plan.splits.host is None else stream_splits
    splits = read(plan.splits, tuple(plan.splits.sizes), resolved.seed)  # damaged data leaves nothing behind
    with directory.locked(resolved):
        return _train(plan, directory, reporter, splits)


def _train(
    plan: Plan, directory: Workdir, reporter: Reporter, splits: Mapping[str, ArraySource | StreamedSplit]
) -> Result:
    checkpoints.clean(directory.checkpoints)
    restored = _restore(plan, directory, reporter)
    normalization = _normalization(plan, directory, splits["train"])
    plan = with_training_colors(plan, splits["train"])
    everywhere = plan.layout.replicated
    tools = make_tools(plan, normalization, place_splits(plan, splits))
    if restored is None:
        state: TrainState = jit_once(_initializer(plan), everywhere)()
        progress = checkpoints.Progress()
    else:
        state, progress = restored
    step = int(state.step)
    directory.rewind_metrics(step)
    events = directory.tensorboard if plan.config.logging.tensorboard else None
    with (
        contextlib.closing(tools.examples),
        _saver(plan, directory) as saver,
        reporter.training(directory.metrics_file, events, plan.clock, step),
    ):
        hooks = Hooks(reporter.stepped, reporter.write)
        loop = Loop(plan, tools, saver, hooks, progress)
        try:
            with stop_on_signals() as stop:
                state = loop.run(state, stop)
            final, best = _final_metrics(plan, tools, loop, directory, reporter, state)
        except (Interrupted, Diverged) as error:
            _unfinished(plan, loop, directory, error).write(directory.result_file)
            raise
    result = dataclasses.replace(
        _summary(plan, loop, directory, "finished", plan.total_steps),
        final=final,
        best=best,
        best_step=loop.progress.best_step,
        params_sha256=params_sha256(state.params),
        state=state,
    )
    result.write(directory.result_file)
    return result


def _normalization(plan: Plan, directory: Workdir, train: ArraySource | StreamedSplit) -> Preprocessing:
    """Fitted when a run begins. One that continues keeps what it began with, and is held to the same images.

    Where these are streamed they are not looked at again, since that takes as long as an epoch of decoding.
    """
    if not directory.preprocessing_file.exists():
        fitted = fit_normalization(plan.splits, train)
        directory.keep_normalization(fitted)
        return fitted
    kept = directory.read_normalization()
    if isinstance(train, ArraySource) and not fits_normalization(plan.splits, train, kept):
        raise DataError(
            f"the training images are not those with which the run in {directory.path} began: their mean and std differ"
        )
    return kept


def describe_run(plan: Plan, directory: Workdir) -> str:
    """One line that says what is trained on what, for how long and where."""
    sizes = ", ".join(f"{n:,} {split}" for split, n in plan.splits.sizes.items())
    count = sum(x.size for x in jax.tree.leaves(plan.abstract.params))
    return (
        f"{plan.config.model.name} ({count:,} parameters) on {plan.splits.dataset.name} ({sizes}) "
        f"for {plan.config.train_for} = {plan.total_steps} steps of {plan.clock.batch_size}; "
        f"run directory {directory.path}"
    )


def _initializer(plan: Plan) -> Any:
    return initializer(plan.model, plan.optimizer.tx, plan.splits.image_shape, plan.config.seed)


def placed(plan: Plan) -> TrainState:
    """The abstract state with its shardings, which is what restoring needs."""
    everywhere = plan.layout.replicated
    state: TrainState = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere), plan.abstract
    )
    return state


def _restore(plan: Plan, directory: Workdir, reporter: Reporter) -> tuple[TrainState, checkpoints.Progress] | None:
    def damaged(step: int, error: CheckpointError) -> None:
        moved = checkpoints.set_aside(directory.checkpoints, step)
        reporter.warn(f"{error}; it is skipped, and kept as {moved.name}")

    restored = checkpoints.restore_newest(directory.checkpoints, placed(plan), damaged)
    if restored is not None:
        reporter.note(f"continuing from step {int(restored[0].step)} of {plan.total_steps}")
    return restored


@contextlib.contextmanager
def _saver(plan: Plan, directory: Workdir) -> Iterator[checkpoints.Saver]:
    saver = checkpoints.Saver(directory.checkpoints, plan.config.checkpoint.keep)
    try:
        yield saver
    finally:
        saver.close()


def _final_metrics(
    plan: Plan, tools: Tools, loop: Loop, directory: Workdir, reporter: Reporter, state: TrainState
) -> tuple[Metrics, Metrics]:
    """Metrics by split of the final and of the best parameters; the test split is looked at here and only here."""
    final = _metrics(tools, state)
    best: Metrics = {}
    best_step = loop.progress.best_step
    if best_step is not None:
        chosen = state
        if best_step != plan.total_steps:
            try:
                chosen, _ = checkpoints.restore(directory.checkpoints, best_step, placed(plan))
            except CheckpointError as error:
                reporter.warn(f"the best checkpoint cannot be evaluated: {error}")
                return final, best
        best = _metrics(tools, chosen)
    if "test" in final:
        epoch = round(plan.clock.epoch(plan.total_steps), 4)
        reporter.write({"step": plan.total_steps, "epoch": epoch, "split": "test", **final["test"]})
    return final, best


def _metrics(tools: Tools, state: TrainState) -> Metrics:
    """By split: the training split as it is, the others by the views of the run."""
    params, variables = tools.evaluated(state)
    return {
        name: (tools.evaluate if name == "train" else tools.evaluate_views)(params, variables, arrays)
        for name, arrays in tools.arrays.items()
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


def read_result(path: Path) -> dict[str, Any]:
    """The content of a `result.json`."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
