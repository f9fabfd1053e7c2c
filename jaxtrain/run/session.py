"""What a run begins with, or continues from, and what is open while it goes on; process 0 acts for all of them."""

import contextlib
from collections.abc import Iterator

from jaxtrain.config import Config
from jaxtrain.data.preprocessing.base import Preprocessing
from jaxtrain.data.source import Split
from jaxtrain.data.splits import fit_normalization, fits_normalization
from jaxtrain.distributed import processes
from jaxtrain.errors import CheckpointError, DataError
from jaxtrain.reporting.reporter import Reporter
from jaxtrain.run import checkpoints
from jaxtrain.run.directory import Workdir
from jaxtrain.training.plan import Plan
from jaxtrain.training.state import TrainState


@contextlib.contextmanager
def lock_workdir(directory: Workdir, config: Config) -> Iterator[None]:
    """Make the directory this run's own while it is open; process 0 locks it for all of them."""
    with directory.locked(config) if processes.is_process_0() else contextlib.nullcontext():
        if processes.is_process_0():
            checkpoints.clean(directory.checkpoints)
        processes.wait_for_all("run directory")
        if not processes.is_process_0():
            directory.check_shared(config)
        yield


def fit_or_read_normalization(plan: Plan, directory: Workdir, train: Split) -> Preprocessing:
    """Fit the preprocessing when a run begins, in process 0; read it when a run continues, and compare the images.

    Where these are streamed they are not looked at again, since that takes as long as an epoch of decoding.
    """
    fitted = None
    if processes.is_process_0() and not directory.preprocessing_file.exists():
        fitted = fit_normalization(plan.splits, train)
        directory.keep_normalization(fitted)
    processes.wait_for_all("preprocessing")
    if fitted is not None:
        return fitted
    kept = directory.read_normalization()
    if not train.streamed and not fits_normalization(plan.splits, train, kept):
        raise DataError(
            f"the training images are not those with which the run in {directory.path} began: their mean and std differ"
        )
    return kept


def restore_target(plan: Plan) -> TrainState:
    """Return the abstract state with its shardings, which is what restoring needs."""
    state: TrainState = plan.layout.placed_shapes(plan.abstract, plan.layout.of_state(plan.abstract))
    return state


def restore_latest(
    plan: Plan, directory: Workdir, reporter: Reporter
) -> tuple[TrainState, checkpoints.Progress] | None:
    """Restore state and progress of the newest whole checkpoint, which process 0 chooses; None where there is none."""

    def damaged(step: int, error: CheckpointError) -> None:
        moved = checkpoints.set_aside(directory.checkpoints, step)
        reporter.warn(f"{error}; it is skipped, and kept as {moved.name}")

    def newest() -> int:
        step = checkpoints.newest_whole(directory.checkpoints, damaged)
        return -1 if step is None else step

    step = processes.broadcast_from_process_0(newest)
    if step < 0:
        return None
    reporter.note(f"continuing from step {step} of {plan.total_steps}")
    return checkpoints.restore(directory.checkpoints, step, restore_target(plan), verify=False)


@contextlib.contextmanager
def open_checkpointer(plan: Plan, directory: Workdir, step: int) -> Iterator[checkpoints.Saver]:
    """Open what saves the states of a run that goes on after `step`, that of its newest checkpoint; -1 for none."""
    made = checkpoints.Saver(directory.checkpoints, plan.config.checkpoint.keep, step)
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def open_writers(plan: Plan, directory: Workdir, reporter: Reporter, step: int) -> Iterator[None]:
    """Open the writers of metrics, in process 0 for all."""
    if not processes.is_process_0():
        yield
        return
    directory.rewind_metrics(step)
    events = directory.tensorboard if plan.config.logging.tensorboard else None
    with reporter.training(directory.metrics_file, events, plan.clock, step):
        yield
