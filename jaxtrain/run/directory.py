"""The run directory: its files, its lock, and the checks that it belongs to this config."""

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
from jaxtrain.run.files import convert_os_errors, write_atomically
from jaxtrain.run.preprocessing_files import read_preprocessing, write_preprocessing


class Workdir:
    """A run directory: the paths of its files, its config and its preprocessing."""

    def __init__(self, path: Path):
        self.path = path
        self.config_file = path / "config.json"
        self.preprocessing_file = path / "preprocessing.json"
        self.metrics_file = path / "metrics.jsonl"
        self.result_file = path / "result.json"
        self.checkpoints = path / "checkpoints"
        self.tensorboard = path / "tensorboard"

    def check(self, config: Config) -> None:
        """Raise `WorkdirError` for a directory with another config or with other files; change nothing."""
        with convert_os_errors(f"use the run directory {self.path}"):
            if self.config_file.exists():
                self._check_same(config)
            elif self.path.exists() and any(not p.name.startswith(".") for p in self.path.iterdir()):
                raise WorkdirError(
                    f"{self.path} contains files, but no run (no config.json); set --workdir to an "
                    "empty or new directory"
                )

    def _check_same(self, config: Config) -> None:
        changes = [row for row in difference(self.read_config(), config) if not _is_device_setting(row[0], config)]
        if changes:
            lines = "\n".join(f"  {path}: {json.dumps(old)} there, {json.dumps(new)} now" for path, old, new in changes)
            raise WorkdirError(
                f"{self.path} contains a run with another config:\n{lines}\n"
                "Set another --workdir, or remove this directory to start from step 0"
            )

    def read_config(self) -> Config:
        """Return the config of the run; raise `WorkdirError` if this is not a run directory."""
        try:
            text = self.config_file.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise WorkdirError(f"{self.path} is not a run directory: it has no config.json") from None
        except (OSError, UnicodeDecodeError) as error:
            raise WorkdirError(f"cannot read {self.config_file}: {error}") from error
        try:
            return loads(text, str(self.config_file))
        except ConfigError as error:
            raise WorkdirError(f"{self.config_file} is not a config of this version of jaxtrain: {error}") from error

    def check_shared(self, config: Config) -> None:
        """Raise `WorkdirError` if this process does not see the config that process 0 has written."""
        if not self.config_file.exists():
            raise WorkdirError(
                f"{self.path} is not shared: process 0 has written {self.config_file.name} there, but this process "
                "does not see it; set --workdir to a directory on a file system that all processes share"
            )
        self._check_same(config)

    @contextlib.contextmanager
    def lock(self, config: Config) -> Iterator[None]:
        """Lock the directory in a `with` block, and write the config; the lock also ends with the process."""
        self.check(config)
        is_new = not self.path.exists()
        with convert_os_errors(f"create the run directory {self.path}"):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / ".lock").open("w")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise WorkdirError(
                    f"another process is training in {self.path}; wait until it ends, or stop it"
                ) from None
            try:
                if not self.config_file.exists() or self.read_config() != config:  # for example other devices
                    write_atomically(self.config_file, dumps(config))
            except WorkdirError:
                if is_new:  # for example with a full disk; the lock is still held
                    shutil.rmtree(self.path, ignore_errors=True)
                raise
            yield

    def keep_normalization(self, normalization: Preprocessing) -> None:
        """Write the preprocessing that was fitted to the training images."""
        write_preprocessing(self.preprocessing_file, normalization)

    def read_normalization(self) -> Preprocessing:
        """Return the preprocessing with which the run was trained."""
        return read_preprocessing(self.preprocessing_file)

    def rewind_metrics(self, step: int) -> None:
        """Remove the records after `step` from metrics.jsonl, because the run repeats these steps."""
        if not self.metrics_file.exists():
            return
        with convert_os_errors(f"read {self.metrics_file}"):
            lines = self.metrics_file.read_text(encoding="utf-8", errors="replace").splitlines()
        kept = [line for line in lines if _is_valid_record(line, step)]
        if len(kept) != len(lines):
            write_atomically(self.metrics_file, "".join(line + "\n" for line in kept))


def _is_device_setting(path: str, config: Config) -> bool:
    """Return whether a setting only selects devices and sharding; such a setting may change when a run continues."""
    if config.parallel.batch_norm == "device":
        return False
    return path == "devices" or (path.startswith("parallel.") and path != "parallel.batch_norm")


def _is_valid_record(line: str, step: int) -> bool:
    """Return whether a line is a complete record up to `step`, and not of the test split, which is evaluated again."""
    try:
        record: dict[str, Any] = json.loads(line)
        return int(record["step"]) <= step and record["split"] != "test"
    except (ValueError, KeyError, TypeError):
        return False
