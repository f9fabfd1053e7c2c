"""Checkpoints: saved in the background by Orbax, made visible by one rename, checked by digest before they are used.

A checkpoint of step 300 is the directory `00000300` with `state/` (Orbax) and `manifest.json`: the shape and dtype
of every leaf, the run's progress, and the size and SHA-256 of every file. It is written under a name that starts with
a dot and renamed when it is complete and on disk, so a directory with a plain name is a complete checkpoint, and one
whose files do not match their digests has been damaged since. Nothing is deleted before something newer is complete,
and deleting starts with a rename, so that a kill does not leave half of one.
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
    """What a run knows besides its state, kept in the manifest.

    Attributes:
      best_step: step of the best evaluation so far, None before the first.
      best_value: its metric.
      seconds: wall time spent training up to here, over all sessions.
    """

    best_step: int | None = None
    best_value: float | None = None
    seconds: float = 0.0


def steps(directory: Path) -> list[int]:
    """The steps of which there is a complete checkpoint, ascending."""
    if not directory.is_dir():
        return []
    return sorted(int(p.name) for p in directory.iterdir() if _NAME.fullmatch(p.name) and p.is_dir())


def checkpoint_path(directory: Path, step: int) -> Path:
    """Where the checkpoint of `step` is."""
    return directory / f"{step:08d}"


def layout_of(state: Any) -> dict[str, list[Any]]:
    """`{path: [dtype, shape]}` of every leaf, as the manifest has it."""
    return {
        path_name(path): [jax.numpy.dtype(leaf.dtype).name, list(leaf.shape)]
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }


class Saver:
    """Saves states of one run in the background, one at a time, and keeps the newest `keep` and the best."""

    def __init__(self, directory: Path, keep: int, last_step: int | None = None):
        self._directory = directory
        self._keep = keep
        self._pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: concurrent.futures.Future[None] | None = None
        self.last_step = max(steps(directory), default=-1) if last_step is None else last_step

    def save(self, state: TrainState, step: int, progress: Progress) -> None:
        """Starts saving `state`, which may be given away as soon as this returns; waits for the save before."""
        from orbax.checkpoint import v1 as ocp

        self.wait()
        if step == self.last_step:
            return
        pending = self._directory / f".pending-{step:08d}"
        manifest = {
            "format": _FORMAT,
            "step": step,
            "progress": dataclasses.asdict(progress),
            "leaves": layout_of(state),
        }
        try:
            if processes.is_process_0():
                pending.mkdir(parents=True)
            processes.wait_for_all(pending.name)
            response = ocp.save_checkpointables_async(pending.absolute() / _STATE, {_STATE: _as_dict(state)})
        except Exception as error:
            raise _not_written(pending, step, error) from error
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
            raise _not_written(pending, step, error) from error
        for old in steps(self._directory)[: -self._keep]:
            if old != best:
                _delete(checkpoint_path(self._directory, old))

    def wait(self) -> None:
        """Returns when the save under way is complete; raises `CheckpointError` when it failed."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()
            processes.wait_for_all(f"checkpoint {self.last_step}")

    def close(self) -> None:
        """Ends the background thread, after the save under way."""
        self._pool.shutdown(wait=True)


def clean(directory: Path) -> None:
    """Removes what a killed run left half-written or half-deleted. Only for the process that trains here."""
    for leftover in directory.glob(".*"):
        if leftover.name.startswith((".pending-", ".deleted-")):
            shutil.rmtree(leftover, ignore_errors=True)


def set_aside(directory: Path, step: int) -> Path:
    """Renames a damaged checkpoint out of the way, for whoever wants to look at it."""
    target = directory / f"damaged-{step:08d}"
    shutil.rmtree(target, ignore_errors=True)
    return checkpoint_path(directory, step).rename(target)


def read_manifest(directory: Path, step: int, *, verify: bool = True) -> dict[str, Any]:
    """The manifest of `step`, after every file of it was held to its size and digest; unless not to `verify` them.

    Raises `CheckpointError` naming the first file that is missing or differs.
    """
    path = checkpoint_path(directory, step)
    try:
        manifest: dict[str, Any] = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != _FORMAT:
            raise CheckpointError(f"checkpoint {path} has format {manifest['format']}; this version reads {_FORMAT}")
        for name, recorded in manifest["files"].items() if verify else ():
            if _digest(path / name) != recorded:
                raise CheckpointError(f"checkpoint {path} is damaged: the content of {name} has changed")
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} is damaged: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged: {_MANIFEST} is not readable ({error!r})") from error
    return manifest


def restore(directory: Path, step: int, abstract: TrainState, *, verify: bool = True) -> tuple[TrainState, Progress]:
    """The state and progress of `step`. `abstract` gives structure, shapes, dtypes and shardings, those of any devices.

    Raises `CheckpointError` when it is damaged, and `MismatchError` when it is of another model or optimizer.
    """
    from orbax.checkpoint import v1 as ocp

    manifest = read_manifest(directory, step, verify=verify)
    path = checkpoint_path(directory, step)
    _check_layout(path, manifest["leaves"], layout_of(abstract))
    try:
        loaded = ocp.load_checkpointables(path.absolute() / _STATE, {_STATE: _as_dict(abstract)})[_STATE]
    except Exception as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error}") from error
    return TrainState(**loaded), Progress(**manifest["progress"])


class MismatchError(CheckpointError):
    """The checkpoint is whole, but of another model or optimizer."""


def newest_whole(directory: Path, damaged: Callable[[int, CheckpointError], None]) -> int | None:
    """The step of the newest checkpoint that is whole, or None where there is none; `damaged` is told of each skipped.

    Raises `CheckpointError` when there are checkpoints and all of them are damaged; nothing is told of them then,
    so that they stay where they are and the run is not started anew by the next attempt.
    """
    found = steps(directory)
    skipped: list[tuple[int, CheckpointError]] = []
    for step in reversed(found):
        try:
            read_manifest(directory, step)
        except CheckpointError as error:
            skipped.append((step, error))
        else:
            for report in skipped:
                damaged(*report)
            return step
    if found:
        raise CheckpointError(f"all {len(found)} checkpoints in {directory} are damaged; remove it to start anew")
    return None


def _check_layout(path: Path, saved: dict[str, list[Any]], wanted: dict[str, list[Any]]) -> None:
    for name in (*saved, *wanted):
        left, right = saved.get(name), wanted.get(name)
        if left != right:
            raise MismatchError(
                f"checkpoint {path} is of another model or optimizer: {name} is {_shown(left)} there "
                f"and {_shown(right)} in the config"
            )


def _shown(leaf: list[Any] | None) -> str:
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
    doomed = path.with_name(f".deleted-{path.name}")
    path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _not_written(pending: Path, step: int, error: Exception) -> CheckpointError:
    shutil.rmtree(pending, ignore_errors=True)
    return CheckpointError(
        f"the checkpoint of step {step} could not be written to {pending.parent}: {error}. "
        "Earlier checkpoints are untouched; cure the cause and run the same command to continue"
    )
