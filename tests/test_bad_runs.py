"""A table of wrong run directories and checkpoints, and full disks; existing files stay unchanged."""

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
    """Train `tiny.json` for 12 steps in `run`, with checkpoints of steps 10 and 12."""
    directory = tmp_path_factory.mktemp("finished")
    (directory / "tiny.json").write_text(dumps(tiny_config(logging=LoggingConfig(tensorboard=False))))
    assert main(["train", str(directory / "tiny.json"), "--workdir", str(directory / "run"), "--quiet"]) == 0
    assert sorted(p.name for p in (directory / "run" / "checkpoints").iterdir()) == ["00000010", "00000012"]
    return directory


@pytest.fixture
def directory(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the current directory a copy of `finished`."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@dataclasses.dataclass(frozen=True)
class Row:
    """The change to the directory, the command line, and the parts of the message."""

    id: str
    prepare: Callable[[], object]
    arguments: tuple[str, ...]
    says: tuple[str, ...]
    alone: bool = False


def nothing() -> None:
    """Leave the run unchanged."""


def file(name: str, text: str = "") -> Callable[[], object]:
    """Return a function that writes or replaces a file with this text."""

    def prepare() -> None:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text)

    return prepare


def edit(name: str, change: Callable[[Any], object]) -> Callable[[], None]:
    """Return a function that changes the content of a JSON file."""

    def prepare() -> None:
        content = json.loads(Path(name).read_text())
        change(content)
        Path(name).write_text(json.dumps(content))

    return prepare


def other_model(config: dict[str, object]) -> None:
    """Set the model of `model=mlp(widths=[9])`."""
    config["model"] = {"name": "mlp", "widths": [9]}


def damage_checkpoints() -> None:
    """Flip one bit of each checkpoint."""
    for checkpoint in Path("run/checkpoints").iterdir():
        path = max((p for p in checkpoint.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


def empty_checkpoints() -> None:
    """Remove the files of each checkpoint."""
    for checkpoint in Path("run/checkpoints").iterdir():
        shutil.rmtree(checkpoint)
        checkpoint.mkdir()


def new(workdir: str) -> tuple[str, ...]:
    """Return the command line that trains the tiny recipe in another directory."""
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
def test_bad_run_directories_are_refused_and_stay_unchanged(
    row: Row, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row.prepare()
    before = tree(directory)
    code, message = run_alone([*row.arguments]) if row.alone else run_here([*row.arguments], capsys)
    assert_refused(code, message, row.says)
    assert tree(directory) == before


def test_train_refuses_a_directory_in_use_by_another_process(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(directory)
    with Path("run/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, message = run_here([*CONTINUE], capsys)
    assert_refused(code, message, ("another process is training in run",))
    assert tree(directory) == before


def fill_disk(monkeypatch: pytest.MonkeyPatch, below: str) -> None:
    """Make every later fsync below the directory `below` fail for lack of space."""
    fsync = os.fsync

    def refuse(descriptor: int) -> None:
        if below in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)


def test_train_on_a_full_disk_leaves_no_file(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(directory)
    fill_disk(monkeypatch, "/new")
    code, message = run_here([*new("new")], capsys)
    assert_refused(code, message, ("new/config.json", "No space left on device"))
    assert tree(directory) == before


def test_a_full_disk_during_a_save_keeps_the_older_checkpoints(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree("run/checkpoints/00000012")
    before = tree(directory / "run" / "checkpoints")
    with monkeypatch.context() as patch:
        fill_disk(patch, "/run/checkpoints")
        code, message = run_here([*CONTINUE], capsys)
    assert_refused(code, message, ("checkpoint of step 12", "run/checkpoints", "No space left on device"))
    assert tree(directory / "run" / "checkpoints") == before
    assert run_here([*CONTINUE], capsys) == (0, "")  # the same command succeeds, as the message says


def test_a_full_disk_for_metrics_keeps_the_checkpoints(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree("run/checkpoints/00000012")
    before = tree(directory / "run" / "checkpoints")
    monkeypatch.setattr("jaxtrain.reporting.reporter.JsonLines", lambda path: JsonLines(Path("/dev/full")))
    code, message = run_here([*CONTINUE], capsys)
    assert_refused(code, message, ("/dev/full", "No space left on device"))
    assert tree(directory / "run" / "checkpoints") == before


def test_train_with_too_little_memory_for_the_data_is_refused(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(*_: object) -> None:
        raise MemoryError("Unable to allocate 18.2 TiB")

    before = tree(directory)
    monkeypatch.setattr("jaxtrain.run.fit.read_splits", load)
    code, message = run_here([*new("new")], capsys)
    assert_refused(code, message, ("memory", "18.2 TiB"))
    assert tree(directory) == before


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
def test_train_on_a_really_full_disk_keeps_the_checkpoints(directory: Path) -> None:
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
