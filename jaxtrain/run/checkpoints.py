"""Checkpoints: Orbax writes them in the background, and their digests are checked before use.

A checkpoint of step 300 is the directory `00000300`. It holds `state/` (Orbax) and `manifest.json`: the shape and dtype
of every leaf, the run's progress, and the size and SHA-256 of every file. It is written under a name that starts with
a dot, and renamed when it is complete and on disk. A directory whose name does not start with a dot is therefore a
complete checkpoint; if its files do not match their digests, it was damaged later. An old checkpoint is deleted only
when a newer one is complete. Deleting starts with a rename, so that a killed process leaves no partial checkpoint.
"""

import concurrent.futures
import dataclasses
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax

from jaxtrain.distributed import processes
from jaxtrain.errors import CheckpointError
from jaxtrain.optim.param_rules import path_name
from jaxtrain.training.state import TrainState

_NAME = re.compile(r"\d{8,}")
_MANIFEST = "manifest.json"
_STATE = "state"
_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Progress:
    """The progress of a run that is not in its state; it is stored in the manifest.

    Attributes:
      best_step: step of the best evaluation so far; None before the first.
      best_value: metric of the best evaluation.
      seconds: wall time of the run so far, over all sessions.
    """

    best_step: int | None = None
    best_value: float | None = None
    seconds: float = 0.0


def steps(directory: Path) -> list[int]:
    """Return the steps that have a complete checkpoint, ascending."""
    if not directory.is_dir():
        return []
    return sorted(int(p.name) for p in directory.iterdir() if _NAME.fullmatch(p.name) and p.is_dir())


def checkpoint_path(directory: Path, step: int) -> Path:
    """Return the path of the checkpoint of `step`."""
    return directory / f"{step:08d}"


def _describe_leaves(state: Any) -> dict[str, list[Any]]:
    """Return `{path: [dtype, shape]}` of every leaf, as in the manifest."""
    return {
        path_name(path): [jax.numpy.dtype(leaf.dtype).name, list(leaf.shape)]
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }


class Checkpointer:
    """A writer of checkpoints in the background, one at a time; it keeps the newest `keep` and the best.

    Args:
      directory: the directory of checkpoints.
      keep: the number of newest checkpoints to keep.
      last_step: the step of the newest checkpoint, -1 if there is none; None to look it up in the directory.
    """

    def __init__(self, directory: Path, keep: int, last_step: int | None = None):
        self._directory = directory
        self._keep = keep
        self._pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: concurrent.futures.Future[None] | None = None
        self.last_step = max(steps(directory), default=-1) if last_step is None else last_step

    def save(self, state: TrainState, step: int, progress: Progress) -> None:
        """Wait for the previous save, then start to save `state`; the caller may donate `state` after this returns."""
        from orbax.checkpoint import v1 as ocp

        self.wait()
        if step == self.last_step:
            return
        pending = self._directory / f".pending-{step:08d}"
        manifest = {
            "format": _FORMAT,
            "step": step,
            "progress": dataclasses.asdict(progress),
            "leaves": _describe_leaves(state),
        }
        try:
            if processes.is_process_0():
                pending.mkdir(parents=True)
            processes.wait_for_all(pending.name)
            response = ocp.save_checkpointables_async(pending.absolute() / _STATE, {_STATE: _as_dict(state)})
        except Exception as error:
            raise _write_error(pending, step, error) from error
        self._pending = self._pool.submit(self._finish, pending, step, manifest, response.result, progress.best_step)
        self.last_step = step

    def _finish(
        self, pending: Path, step: int, manifest: dict[str, Any], written: Callable[[], None], best: int | None
    ) -> None:
        try:
            written()
            if not processes.is_process_0():
                return
            manifest["files"] = {name: _digest(pending / name, sync=True) for name in _files(pending)}
            with (pending / _MANIFEST).open("w", encoding="utf-8") as file:
                json.dump(manifest, file)
                file.flush()
                os.fsync(file.fileno())
            pending.rename(checkpoint_path(self._directory, step))
            _sync_directory(self._directory)
        except Exception as error:
            raise _write_error(pending, step, error) from error
        for old in steps(self._directory)[: -self._keep]:
            if old != best:
                _delete(checkpoint_path(self._directory, old))

    def wait(self) -> None:
        """Wait until the current save is complete; raise `CheckpointError` if it failed."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()
            processes.wait_for_all(f"checkpoint {self.last_step}")

    def close(self) -> None:
        """Wait for the current save, and end the background thread."""
        self._pool.shutdown(wait=True)


def clean(directory: Path) -> None:
    """Remove partial checkpoints that a killed run left; only the process that trains here may call this."""
    for leftover in directory.glob(".*"):
        if leftover.name.startswith((".pending-", ".deleted-")):
            shutil.rmtree(leftover, ignore_errors=True)


def set_aside(directory: Path, step: int) -> Path:
    """Rename a damaged checkpoint to `damaged-STEP`, where it can be inspected, and return the new path."""
    target = directory / f"damaged-{step:08d}"
    shutil.rmtree(target, ignore_errors=True)
    return checkpoint_path(directory, step).rename(target)


def read_manifest(directory: Path, step: int, *, verify: bool = True) -> dict[str, Any]:
    """Return the manifest of the checkpoint of `step`.

    Args:
      directory: the directory of checkpoints.
      step: the step of the checkpoint.
      verify: whether to check the size and SHA-256 of every file.

    Raises:
      CheckpointError: a file is missing or differs; the message names the first such file.
    """
    path = checkpoint_path(directory, step)
    try:
        manifest: dict[str, Any] = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != _FORMAT:
            raise CheckpointError(
                f"checkpoint {path} has format {manifest['format']}, but this version of jaxtrain reads only {_FORMAT}"
            )
        for name, recorded in manifest["files"].items() if verify else ():
            if _digest(path / name) != recorded:
                raise CheckpointError(
                    f"checkpoint {path} is damaged: {name} has another size or SHA-256 than when it was written"
                )
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} is damaged: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged: {_MANIFEST} cannot be read ({error!r})") from error
    return manifest


def restore(directory: Path, step: int, abstract: TrainState, *, verify: bool = True) -> tuple[TrainState, Progress]:
    """Return the state and progress of the checkpoint of `step`.

    Args:
      directory: the directory of checkpoints.
      step: the step of the checkpoint.
      abstract: the structure, shapes, dtypes and shardings of the state; the devices need not be those of the save.
      verify: whether to check the size and SHA-256 of every file.

    Raises:
      CheckpointError: the checkpoint is damaged.
      MismatchError: the checkpoint belongs to another model or optimizer.
    """
    from orbax.checkpoint import v1 as ocp

    manifest = read_manifest(directory, step, verify=verify)
    path = checkpoint_path(directory, step)
    _check_leaves(path, manifest["leaves"], _describe_leaves(abstract))
    try:
        loaded = ocp.load_checkpointables(path.absolute() / _STATE, {_STATE: _as_dict(abstract)})[_STATE]
    except Exception as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error}") from error
    return TrainState(**loaded), Progress(**manifest["progress"])


class MismatchError(CheckpointError):
    """A checkpoint that is intact, but belongs to another model or optimizer."""


def newest_intact_step(directory: Path, damaged: Callable[[int, CheckpointError], None]) -> int | None:
    """Return the step of the newest intact checkpoint; None if there are no checkpoints.

    Args:
      directory: the directory of checkpoints.
      damaged: the function that is called with the step and the error of each skipped checkpoint, newest first.

    Raises:
      CheckpointError: all checkpoints are damaged. `damaged` is not called then, so they stay where they are, and the
        next attempt does not start the run from the beginning.
    """
    available = steps(directory)
    skipped: list[tuple[int, CheckpointError]] = []
    for step in reversed(available):
        try:
            read_manifest(directory, step)
        except CheckpointError as error:
            skipped.append((step, error))
        else:
            for report in skipped:
                damaged(*report)
            return step
    if available:
        raise CheckpointError(
            f"all {len(available)} checkpoints in {directory} are damaged; remove that directory to start from step 0"
        )
    return None


def _check_leaves(path: Path, saved: dict[str, list[Any]], wanted: dict[str, list[Any]]) -> None:
    for name in (*saved, *wanted):
        left, right = saved.get(name), wanted.get(name)
        if left != right:
            raise MismatchError(
                f"checkpoint {path} belongs to another model or optimizer: {name} is {_format_leaf(left)} there "
                f"and {_format_leaf(right)} in the config"
            )


def _format_leaf(leaf: list[Any] | None) -> str:
    return "absent" if leaf is None else f"{leaf[0]}{leaf[1]}"


def _as_dict(state: TrainState) -> dict[str, Any]:
    return {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}


def _files(directory: Path) -> Iterable[str]:
    return sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file())


def _digest(path: Path, *, sync: bool = False) -> list[Any]:
    with path.open("rb") as file:
        if sync:
            os.fsync(file.fileno())
        return [os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()]


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _delete(path: Path) -> None:
    renamed = path.with_name(f".deleted-{path.name}")
    path.rename(renamed)
    shutil.rmtree(renamed, ignore_errors=True)


def _write_error(pending: Path, step: int, error: Exception) -> CheckpointError:
    shutil.rmtree(pending, ignore_errors=True)
    return CheckpointError(
        f"the checkpoint of step {step} could not be written to {pending.parent}: {error}. "
        "Earlier checkpoints are unchanged; fix the cause and run the same command to continue"
    )
