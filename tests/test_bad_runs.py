"""A table of wrong run directories and checkpoints, and disks that are full; what was there before stays as it was."""

import dataclasses
import errno
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jaxtrain.cli.main import main
from jaxtrain.config import LoggingConfig, dumps
from jaxtrain.reporting.writers import JsonLines
from tests.conftest import tiny_config
from tests.refusals import assert_refused, run_alone, run_here, tree

CONTINUE = ("train", "tiny.json", "--workdir", "run", "--quiet")
EVAL = ("eval", "run")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `tiny.json` and its run of 12 steps in `run`, with checkpoints of steps 10 and 12."""
    directory = tmp_path_factory.mktemp("finished")
    (directory / "tiny.json").write_text(dumps(tiny_config(logging=LoggingConfig(tensorboard=False))))
    assert main(["train", str(directory / "tiny.json"), "--workdir", str(directory / "run"), "--quiet"]) == 0
    assert sorted(p.name for p in (directory / "run" / "checkpoints").iterdir()) == ["00000010", "00000012"]
    return directory


@pytest.fixture
def here(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, a copy of `finished`."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@dataclasses.dataclass(frozen=True)
class Row:
    """What is done to the directory, what is typed in it, and what the message must say."""

    id: str
    prepare: Callable[[], object]
    arguments: tuple[str, ...]
    says: tuple[str, ...]
    alone: bool = False


def nothing() -> None:
    """Leaves the run as it is."""


def file(name: str, text: str = "") -> Callable[[], object]:
    """A file with this text, in place of the one that may be there."""

    def prepare() -> None:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text)

    return prepare


def edit(name: str, change: Callable[[Any], object]) -> Callable[[], None]:
    """Changes a JSON file by hand."""

    def prepare() -> None:
        content = json.loads(Path(name).read_text())
        change(content)
        Path(name).write_text(json.dumps(content))

    return prepare


def other_model(config: dict[str, object]) -> None:
    """What `model=mlp(widths=[9])` says."""
    config["model"] = {"name": "mlp", "widths": [9]}


def damage_checkpoints() -> None:
    """One bit of each checkpoint differs."""
    for checkpoint in Path("run/checkpoints").iterdir():
        path = max((p for p in checkpoint.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


def empty_checkpoints() -> None:
    """The files of each checkpoint are gone."""
    for checkpoint in Path("run/checkpoints").iterdir():
        shutil.rmtree(checkpoint)
        checkpoint.mkdir()


def new(workdir: str) -> tuple[str, ...]:
    """The tiny recipe in another directory."""
    return ("train", "tiny.json", "--workdir", workdir)


ROWS = (
    Row("another-config", nothing, (*CONTINUE, "seed=1"), ("another config", "seed: 0 there, 1 now")),
    Row("a-file", file("taken"), new("taken"), ("run directory taken",), alone=True),
    Row("below-a-file", file("taken"), new("taken/run"), ("run directory taken/run",)),
    Row("below-proc", nothing, new("/proc/jaxtrain/run"), ("run directory /proc/jaxtrain/run",)),
    Row("name-too-long", nothing, new("x" * 300), (f"run directory {'x' * 300}", "too long")),
    Row("default-below-a-file", file("runs"), ("train", "tiny.json"), ("run directory runs/tiny-",)),
    Row("of-something-else", file("photos/cat.jpg"), new("photos"), ("photos contains files", "--workdir")),
    Row("config-no-json", file("run/config.json", "{"), CONTINUE, ("run/config.json", "JSON")),
    Row("config-typo", edit("run/config.json", lambda c: c.update(sede=1)), CONTINUE, ("run/config.json", "'seed'")),
    Row("config-newer", edit("run/config.json", lambda c: c.update(version=2)), CONTINUE, ("has version 2", "newer")),
    Row("mean-no-json", file("run/preprocessing.json", "no"), CONTINUE, ("run/preprocessing.json",)),
    Row(
        "other-images",
        edit("run/preprocessing.json", lambda c: c["normalization"].update(mean=[0.9])),
        CONTINUE,
        ("the run in run", "mean and std"),
    ),
    Row(
        "checkpoint-of-another-model",
        edit("run/config.json", other_model),
        (*CONTINUE, "model=mlp(widths=[9])"),
        ("run/checkpoints/00000012 belongs to another model", "fc1"),
    ),
    Row("checkpoints-damaged", damage_checkpoints, CONTINUE, ("all 2 checkpoints in run/checkpoints",)),
    Row("checkpoints-empty", empty_checkpoints, CONTINUE, ("all 2 checkpoints in run/checkpoints",)),
    Row("eval-no-run", nothing, ("eval", "rum"), ("rum is not a run directory",), alone=True),
    Row("eval-a-file", nothing, ("eval", "tiny.json"), ("tiny.json",)),
    Row("eval-split", nothing, (*EVAL, "--split", "tset"), ("--split: ", "'tset'", "did you mean 'test'")),
    Row("eval-step", nothing, (*EVAL, "--checkpoint", "11"), ("step 11 in run/checkpoints", "[10, 12]")),
    Row("eval-word", nothing, (*EVAL, "--checkpoint", "newest"), ("--checkpoint: 'newest'", "best, last")),
    Row("eval-superscript", nothing, (*EVAL, "--checkpoint", "¹²"), ("--checkpoint: '¹²'",)),
    Row("eval-view", nothing, (*EVAL, "--tta", "tencrop"), ("--tta: ", "'tencrop'", "did you mean 'ten_crop'")),
    Row("eval-no-view", nothing, (*EVAL, "--tta", "augmented(0)"), ("--tta.k: ", ">= 1")),
    Row("eval-crop", nothing, (*EVAL, "--tta", "ten_crop(5)"), ("evaluation.tta: ", "crop of 5x5", "image of 4x4")),
    Row("eval-draws", nothing, (*EVAL, "--tta", "draws(2)", "--fold-batchnorm"), ("--fold-batchnorm: draws",)),
    Row("eval-damaged", damage_checkpoints, EVAL, ("run/checkpoints/000000", "is damaged")),
    Row("eval-none", lambda: shutil.rmtree("run/checkpoints"), EVAL, ("no checkpoint in run/checkpoints",)),
    Row("eval-another-model", edit("run/config.json", other_model), EVAL, ("another model", "fc1")),
    Row("eval-no-mean", lambda: Path("run/preprocessing.json").unlink(), EVAL, ("run has no preprocessing.json",)),
    Row("diff-result", file("run/result.json", "{"), ("diff", "run", "run"), ("run/result.json",)),
    Row("diff-config", file("run/config.json", "{"), ("diff", "run", "tiny.json"), ("run/config.json",)),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_is_refused(row: Row, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row.prepare()
    before = tree(here)
    code, message = run_alone([*row.arguments]) if row.alone else run_here([*row.arguments], capsys)
    assert_refused(code, message, row.says)
    assert tree(here) == before


def test_a_directory_in_which_another_process_trains(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(here)
    with Path("run/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, message = run_here([*CONTINUE], capsys)
    assert_refused(code, message, ("another process is training in run",))
    assert tree(here) == before


def full_disk(monkeypatch: pytest.MonkeyPatch, below: str) -> None:
    """From now on, nothing below the directory `below` reaches the disk."""
    fsync = os.fsync

    def refuse(descriptor: int) -> None:
        if below in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)


def test_a_disk_that_is_full_from_the_start(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(here)
    full_disk(monkeypatch, "/new")
    code, message = run_here([*new("new")], capsys)
    assert_refused(code, message, ("new/config.json", "No space left on device"))
    assert tree(here) == before


def test_a_disk_that_is_full_when_the_state_is_saved(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree("run/checkpoints/00000012")
    before = tree(here / "run" / "checkpoints")
    with monkeypatch.context() as patch:
        full_disk(patch, "/run/checkpoints")
        code, message = run_here([*CONTINUE], capsys)
    assert_refused(code, message, ("checkpoint of step 12", "run/checkpoints", "No space left on device"))
    assert tree(here / "run" / "checkpoints") == before
    assert run_here([*CONTINUE], capsys) == (0, "")  # as the message says


def test_a_disk_that_is_full_when_metrics_are_written(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree("run/checkpoints/00000012")
    before = tree(here / "run" / "checkpoints")
    monkeypatch.setattr("jaxtrain.reporting.reporter.JsonLines", lambda path: JsonLines(Path("/dev/full")))
    code, message = run_here([*CONTINUE], capsys)
    assert_refused(code, message, ("/dev/full", "No space left on device"))
    assert tree(here / "run" / "checkpoints") == before


def test_too_little_memory(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def load(*_: object) -> None:
        raise MemoryError("Unable to allocate 18.2 TiB")

    before = tree(here)
    monkeypatch.setattr("jaxtrain.run.fit.read_splits", load)
    code, message = run_here([*new("new")], capsys)
    assert_refused(code, message, ("memory", "18.2 TiB"))
    assert tree(here) == before


SMALL_DISK = """\
mount -t tmpfs tmpfs small && cp -r run small || exit 99
mount -o remount,size=$(($(df -k --output=used small | tail -n 1) + 12))k small || exit 99
ls -AR small/run/checkpoints > before
"$@"
code=$?
ls -AR small/run/checkpoints > after
exit $code
"""


@pytest.mark.slow
def test_a_disk_that_is_full_in_truth(here: Path) -> None:
    shutil.rmtree("run/checkpoints/00000012")
    Path("small").mkdir()
    shell = ("unshare", "--map-root-user", "--mount", "sh", "-c")
    try:
        mounts = subprocess.run([*shell, "mount -t tmpfs tmpfs small"], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare to mount a small disk with")
    if mounts.returncode:
        pytest.skip(f"no small disk can be mounted: {mounts.stderr.decode().strip()}")
    before = (*shell, SMALL_DISK, "sh")
    code, message = run_alone(["train", "tiny.json", "--workdir", "small/run", "--quiet"], before=before)
    assert_refused(code, message, ("small/run", "No space left on device"))
    assert Path("after").read_text() == Path("before").read_text()
