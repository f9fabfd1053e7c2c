"""The run directory: whose run it is, one process at a time, and metrics that agree with the state restored."""

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxtrain.config import Config, difference, dumps, loads
from jaxtrain.data.preprocessing.base import Preprocessing
from jaxtrain.errors import ConfigError, WorkdirError
from jaxtrain.run.files import os_errors, write_atomically
from jaxtrain.run.preprocessing_files import read_preprocessing, write_preprocessing


class Workdir:
    """Paths of a run directory, and its config and preprocessing on disk."""

    def __init__(self, path: Path):
        self.path = path
        self.config_file = path / "config.json"
        self.preprocessing_file = path / "preprocessing.json"
        self.metrics_file = path / "metrics.jsonl"
        self.result_file = path / "result.json"
        self.checkpoints = path / "checkpoints"
        self.tensorboard = path / "tensorboard"

    def check(self, config: Config) -> None:
        """Refuses a directory of another config, or one with files of something else; touches nothing."""
        with os_errors(f"use the run directory {self.path}"):
            if self.config_file.exists():
                self._check_same(config)
            elif self.path.exists() and any(not p.name.startswith(".") for p in self.path.iterdir()):
                raise WorkdirError(
                    f"{self.path} holds files, but no run (there is no config.json); name an empty or new --workdir"
                )

    def _check_same(self, config: Config) -> None:
        rows = [row for row in difference(self.read_config(), config) if not _only_places(row[0], config)]
        if rows:
            shown = "\n".join(f"  {path}: {json.dumps(old)} there, {json.dumps(new)} now" for path, old, new in rows)
            raise WorkdirError(
                f"{self.path} holds a run of another config:\n{shown}\n"
                "Name another --workdir, or remove this one to start anew"
            )

    def read_config(self) -> Config:
        """The config of the run; `WorkdirError` when this is not a run directory."""
        try:
            text = self.config_file.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise WorkdirError(f"{self.path} is not a run directory: it has no config.json") from None
        except (OSError, UnicodeDecodeError) as error:
            raise WorkdirError(f"cannot read {self.config_file}: {error}") from error
        try:
            return loads(text, str(self.config_file))
        except ConfigError as error:
            raise WorkdirError(f"{self.config_file} is not a config of this version: {error}") from error

    def check_shared(self, config: Config) -> None:
        """Refuses a directory in which the config that another process has written is not seen."""
        if not self.config_file.exists():
            raise WorkdirError(
                f"{self.path} is not shared: process 0 has written {self.config_file.name} there, and this one does "
                "not see it. All processes of a run need one file system for its directory"
            )
        self._check_same(config)

    @contextlib.contextmanager
    def locked(self, config: Config) -> Iterator[None]:
        """Makes the directory this process's own and writes the config; the lock goes with the process."""
        self.check(config)
        made = not self.path.exists()
        with os_errors(f"create the run directory {self.path}"):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / ".lock").open("w")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise WorkdirError(f"another process is training in {self.path}; wait for it, or stop it") from None
            try:
                if not self.config_file.exists() or self.read_config() != config:  # on other devices, say
                    write_atomically(self.config_file, dumps(config))
            except WorkdirError:
                if made:  # a full disk, say; the lock is still held
                    shutil.rmtree(self.path, ignore_errors=True)
                raise
            yield

    def keep_normalization(self, normalization: Preprocessing) -> None:
        """Stores what was fitted to the training images."""
        write_preprocessing(self.preprocessing_file, normalization)

    def read_normalization(self) -> Preprocessing:
        """What the run was trained with."""
        return read_preprocessing(self.preprocessing_file)

    def rewind_metrics(self, step: int) -> None:
        """Drops the lines of metrics.jsonl after `step`: the steps after it will be made and written again."""
        if not self.metrics_file.exists():
            return
        with os_errors(f"read {self.metrics_file}"):
            lines = self.metrics_file.read_text(encoding="utf-8", errors="replace").splitlines()
        kept = [line for line in lines if _belongs(line, step)]
        if len(kept) != len(lines):
            write_atomically(self.metrics_file, "".join(line + "\n" for line in kept))


def _only_places(path: str, config: Config) -> bool:
    """Whether a setting says where a run is computed, and not what; such a one may change when a run continues."""
    if config.parallel.batch_norm == "device":
        return False
    return path == "devices" or (path.startswith("parallel.") and path != "parallel.batch_norm")


def _belongs(line: str, step: int) -> bool:
    """Whether a line is whole and of a step already made; the test split is evaluated anew when a run ends."""
    try:
        record: dict[str, Any] = json.loads(line)
        return int(record["step"]) <= step and record["split"] != "test"
    except (ValueError, KeyError, TypeError):
        return False
