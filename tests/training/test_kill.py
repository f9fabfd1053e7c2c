"""Runs killed by SIGKILL and restarted end in bitwise the parameters, and the metrics, of one that was not."""

import dataclasses
import random
from pathlib import Path

import pytest

from tests.kill_and_resume import Command, kill_after, kill_during_save, outcome

ARGUMENTS = ("digits_mlp", "train_for=8 epochs", "checkpoint.every=10 steps", "evaluation.every=1 epoch")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Command, dict[str, object]]:
    command = Command(ARGUMENTS, tmp_path_factory.mktemp("kill") / "undisturbed")
    command.finish()
    return command, outcome(command.workdir)


def test_killed_during_a_save(undisturbed: tuple[Command, dict[str, object]], tmp_path: Path) -> None:
    base, expected = undisturbed
    command = dataclasses.replace(base, workdir=tmp_path / "run")
    assert kill_during_save(command, saves=3) == "save 3"
    assert command.pending(), "the kill was to strike while a checkpoint was half-written"
    output = command.finish()
    assert "continuing from step" in output
    assert not command.pending()
    assert outcome(command.workdir) == expected


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments(undisturbed: tuple[Command, dict[str, object]], tmp_path: Path, seed: int) -> None:
    base, expected = undisturbed
    command = dataclasses.replace(base, workdir=tmp_path / "run")
    draw = random.Random(seed)
    for low, high in ((2.0, 3.5), (3.0, 4.5)):
        kill_after(command, draw.uniform(low, high))
    command.finish()
    assert outcome(command.workdir) == expected
