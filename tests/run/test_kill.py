"""Runs killed by SIGKILL and restarted end in bitwise the parameters, and the metrics, of one that was not."""

import dataclasses
import random
from pathlib import Path

from tests.kill_and_resume import Command, kill_after, kill_during_save, outcome

ARGUMENTS = (
    "digits_mlp",
    "train_for=8 epochs",
    "checkpoint.every=10 steps",
    "evaluation.every=1 epoch",
    "logging.tensorboard=false",
)


def test_killed_during_a_save_and_then_at_random_moments(tmp_path: Path) -> None:
    undisturbed = Command(ARGUMENTS, tmp_path / "undisturbed")
    undisturbed.finish()
    expected = outcome(undisturbed.workdir)
    command = dataclasses.replace(undisturbed, workdir=tmp_path / "run")
    assert kill_during_save(command, saves=3) == "save 3"
    assert command.pending(), "the kill was to strike while a checkpoint was half-written"
    draw = random.Random(1)
    for low, high in ((2.0, 3.5), (3.0, 4.5)):
        kill_after(command, draw.uniform(low, high))
    output = command.finish()
    assert "continuing from step" in output
    assert not command.pending()
    assert outcome(command.workdir) == expected
