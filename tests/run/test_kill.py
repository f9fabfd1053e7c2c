"""Runs killed by SIGKILL and restarted end with bitwise the parameters and metrics of an undisturbed run."""

import dataclasses
import random
from pathlib import Path

import pytest

import jaxtrain
from jaxtrain.config import CheckpointConfig, EvaluationConfig, LoggingConfig, dumps
from tests.conftest import tiny_config
from tests.kill_and_resume import Command, kill_after, kill_during_save, outcome


@pytest.mark.slow
def test_a_run_killed_during_a_save_ends_like_an_undisturbed_run(tmp_path: Path) -> None:
    """The undisturbed run uses one of this process's eight devices; the killed run's process has one device."""
    config = tiny_config(
        train_for="60 steps",
        logging=LoggingConfig(every="1 steps", tensorboard=False),
        evaluation=EvaluationConfig(every="10 steps", batch_size=8, best="loss"),
        checkpoint=CheckpointConfig(every="4 steps"),
    )
    undisturbed = jaxtrain.fit(config, tmp_path / "undisturbed")
    (tmp_path / "config.json").write_text(dumps(config))
    command = Command((str(tmp_path / "config.json"),), tmp_path / "run")
    assert kill_during_save(command, saves=3) == "save 3"
    assert command.pending(), "the kill was to strike while a checkpoint was half-written"
    assert "continuing from step" in command.finish()
    assert not command.pending()
    assert outcome(command.workdir) == outcome(undisturbed.workdir)


DIGITS = (
    "digits_mlp",
    "train_for=8 epochs",
    "checkpoint.every=10 steps",
    "evaluation.every=1 epoch",
    "logging.tensorboard=false",
)


@pytest.mark.slow
def test_a_recipe_killed_repeatedly_at_random_moments_ends_like_an_undisturbed_run(tmp_path: Path) -> None:
    undisturbed = Command(DIGITS, tmp_path / "undisturbed")
    undisturbed.finish()
    command = dataclasses.replace(undisturbed, workdir=tmp_path / "run")
    assert kill_during_save(command, saves=3) == "save 3"
    draw = random.Random(1)
    for low, high in ((2.0, 3.5), (3.0, 4.5)):
        kill_after(command, draw.uniform(low, high))
    assert "continuing from step" in command.finish()
    assert not command.pending()
    assert outcome(command.workdir) == outcome(undisturbed.workdir)
