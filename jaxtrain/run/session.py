"""The session of a run: its lock, restored state, preprocessing, checkpoints and writers; process 0 acts for all."""

import contextlib
from collections.abc import Iterator

from jaxtrain.config import Config
from jaxtrain.data.preprocessing.base import Preprocessing
from jaxtrain.data.source import Split
from jaxtrain.data.splits import fit_normalization, matches_normalization
from jaxtrain.distributed import processes
from jaxtrain.errors import CheckpointError, DataError
from jaxtrain.reporting.reporter import Reporter
from jaxtrain.run import checkpoints
from jaxtrain.run.directory import Workdir
from jaxtrain.training.plan import Plan
from jaxtrain.training.state import TrainState


@contextlib.contextmanager
def lock_workdir(directory: Workdir, config: Config) -> Iterator[None]:
    """Lock the run directory inside a `with` block; process 0 locks it for all processes."""
    with directory.lock(config) if processes.is_process_0() else contextlib.nullcontext():
        if processes.is_process_0():
            checkpoints.clean(directory.checkpoints)
        processes.wait_for_all("run directory")
        if not processes.is_process_0():
            directory.check_shared(config)
        yield


def fit_or_read_normalization(plan: Plan, directory: Workdir, train: Split) -> Preprocessing:
    """Fit the preprocessing to the training images if a run begins; read it if a run continues.

    Process 0 fits it. A run that continues checks that the images still have the same statistics, unless they are
    streamed: that would take as long as decoding an epoch.

    Raises:
      DataError: the training images differ from those with which the run began.
    """
    fitted = None
    if processes.is_process_0() and not directory.preprocessing_file.exists():
        fitted = fit_normalization(plan.splits, train)
        directory.keep_normalization(fitted)
    processes.wait_for_all("preprocessing")
    if fitted is not None:
        return fitted
    stored = directory.read_normalization()
    if not train.streamed and not matches_normalization(plan.splits, train, stored):
        raise DataError(
            f"the training images are not those with which the run in {directory.path} began: their mean and std "
            "differ; restore the images, or set another --workdir"
        )
    return stored


def restore_target(plan: Plan) -> TrainState:
    """Return the abstract state with its shardings, into which a checkpoint is restored."""
    state: TrainState = plan.layout.abstract_arrays(plan.abstract, plan.layout.of_state(plan.abstract))
    return state


def restore_latest(
    plan: Plan, directory: Workdir, reporter: Reporter
) -> tuple[TrainState, checkpoints.Progress] | None:
    """Restore state and progress of the newest intact checkpoint, which process 0 chooses; None if there is none."""

    def report_damage(step: int, error: CheckpointError) -> None:
        moved = checkpoints.set_aside(directory.checkpoints, step)
        reporter.warn(f"{error}; it is skipped and renamed to {moved.name}")

    def newest() -> int:
        step = checkpoints.newest_intact_step(directory.checkpoints, report_damage)
        return -1 if step is None else step

    step = processes.broadcast_from_process_0(newest)
    if step < 0:
        return None
    reporter.note(f"continuing from step {step} of {plan.total_steps}")
    return checkpoints.restore(directory.checkpoints, step, restore_target(plan), verify=False)


@contextlib.contextmanager
def open_checkpointer(plan: Plan, directory: Workdir, step: int) -> Iterator[checkpoints.Checkpointer]:
    """Open the writer of checkpoints of a run whose newest checkpoint is of `step`; -1 for none."""
    saver = checkpoints.Checkpointer(directory.checkpoints, plan.config.checkpoint.keep, step)
    try:
        yield saver
    finally:
        saver.close()


@contextlib.contextmanager
def open_writers(plan: Plan, directory: Workdir, reporter: Reporter, step: int) -> Iterator[None]:
    """Open the writers of metrics in process 0, after removing the records after `step`."""
    if not processes.is_process_0():
        yield
        return
    directory.rewind_metrics(step)
    events = directory.tensorboard if plan.config.logging.tensorboard else None
    with reporter.training(directory.metrics_file, events, plan.clock, step):
        yield
