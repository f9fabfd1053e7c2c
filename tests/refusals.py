"""Every wrong input must give exit code 2 and one message that names the cause, and change nothing on disk."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jaxtrain
from jaxtrain.cli.main import main

_MESSAGE = re.compile(r"^jaxtrain[a-z ]*: (config )?error: ", re.MULTILINE)


def tree(directory: Path) -> dict[str, str]:
    """Return everything below `directory`: files by their digest, links by their target."""
    found = {}
    for path in sorted(directory.rglob("*")):
        if path.is_symlink():
            content = f"link to {path.readlink()}"
        elif path.is_dir():
            content = "directory"
        else:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path.relative_to(directory))] = content
    return found


def assert_refused(code: int, message: str, says: tuple[str, ...]) -> None:
    """Assert exit code 2 and exactly one message on stderr that contains all of `says`."""
    assert code == 2, message
    assert message.startswith(("jaxtrain: ", "usage: ")), message
    if (
        message.startswith("jaxtrain: ") and "another config" not in message
    ):  # that message lists the settings on more lines
        assert len(message.splitlines()) == 1, message
    assert len(_MESSAGE.findall(message)) == 1, message
    assert "Traceback" not in message
    assert "Warning" not in message
    for part in says:
        assert part in message, message


def run_here(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Return exit code and stderr of a command in this process; a `SystemExit` of argparse gives its code."""
    capsys.readouterr()
    try:
        code = main(arguments)
    except SystemExit as error:
        code = -1 if error.code is None else int(error.code)
    return code, capsys.readouterr().err


def run_alone(arguments: list[str], *, before: tuple[str, ...] = ()) -> tuple[int, str]:
    """Return exit code and stderr of `python -m jaxtrain` in a new process in the current directory."""
    environment = {**os.environ, "PYTHONPATH": str(Path(jaxtrain.__file__).parent.parent), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [*before, sys.executable, "-m", "jaxtrain", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stderr
