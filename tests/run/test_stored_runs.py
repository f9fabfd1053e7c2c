"""Runs that stream arrays: bitwise equal to a run in memory, and resumed with another number of threads."""

import os
import signal
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import jaxtrain
from jaxtrain.analysis.data_preview import preview_data
from jaxtrain.cli.main import main
from jaxtrain.config import (
    CheckpointConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    LoggingConfig,
    apply_overrides,
    digest,
    dumps,
)
from jaxtrain.data.source import ArraySource
from jaxtrain.errors import ConfigError, Interrupted
from jaxtrain.reporting.display import SilentDisplay
from jaxtrain.reporting.reporter import Reporter
from jaxtrain.run.evaluate_run import evaluate_run
from jaxtrain.training.plan import make_plan
from scripts.make_shards import write_shards
from tests.conftest import tiny_config
from tests.kill_and_resume import outcome
from tests.levels import slow_except


class Stop(SilentDisplay):
    """A display that sends this process a signal after a step."""

    def __init__(self, step: int):
        self._step = step

    def update_step(self, step: int) -> None:
        if step == self._step:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 28 training images of two classes that differ in brightness, in shards of 5, and 10 test images."""
    root = tmp_path_factory.mktemp("shards")
    rng = np.random.RandomState(0)
    for split, count in (("train", 28), ("test", 10)):
        labels = rng.randint(0, 2, count).astype(np.int32)
        images = (rng.randint(0, 200, (count, 6, 6, 3)) + 55 * labels.reshape(-1, 1, 1, 1)).astype(np.uint8)
        source = ArraySource(images, labels)
        write_shards(root, split, (source.take(np.arange(i, min(i + 5, count))) for i in range(0, count, 5)))
    return root


def config(devices: int = 1, **data: Any) -> Config:
    """Return a config of 12 steps of 8 images with augmentation and padding."""
    settings: dict[str, Any] = {
        "dataset": "shards",
        "batch_size": 8,
        "validation": "5 examples",
        "pad": 1,
        "augment": "alternating_flip_lr|pad_crop(2)",
        "stream": True,
    }
    return tiny_config(
        data=DataConfig(**{**settings, **data}),
        devices=devices,
        logging=LoggingConfig(every="2 steps", tensorboard=False),
        evaluation=EvaluationConfig(every="4 steps", batch_size=6, best="loss"),
        checkpoint=CheckpointConfig(every="5 steps"),
    )


@pytest.fixture(scope="module")
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> jaxtrain.Result:
    return jaxtrain.fit(config(workers=0), tmp_path_factory.mktemp("fit") / "run", data_dir=folder)


@pytest.mark.slow
def test_a_streamed_run_ends_with_the_parameters_of_a_run_in_memory(
    finished: jaxtrain.Result, folder: Path, tmp_path: Path
) -> None:
    held = jaxtrain.fit(config(stream=False), tmp_path / "run", data_dir=folder)
    assert held.params_sha256 == finished.params_sha256
    for split, metrics in held.final.items():
        assert finished.final[split] == pytest.approx(metrics, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("settings", ["axis_types=explicit", "backend=pmap"])
def test_a_streamed_run_on_two_devices_equals_one_on_one(
    finished: jaxtrain.Result, folder: Path, tmp_path: Path, settings: str
) -> None:
    shared = apply_overrides(config(devices=2, workers=2), [f"parallel.{settings}"])
    result = jaxtrain.fit(shared, tmp_path / "run", data_dir=folder)
    assert finished.state is not None
    assert result.state is not None
    for a, b in zip(*(jax.tree.leaves(r.state.params) for r in (finished, result)), strict=True):  # type: ignore[union-attr]
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_index_shuffle_gives_the_same_run_streamed_and_in_memory(
    finished: jaxtrain.Result, folder: Path, tmp_path: Path
) -> None:
    runs = {
        stream: jaxtrain.fit(config(stream=stream, shuffle="index"), tmp_path / str(stream), data_dir=folder)
        for stream in (True, False)
    }
    assert runs[True].params_sha256 == runs[False].params_sha256 != finished.params_sha256


def test_an_interrupted_streamed_run_ends_the_same_with_other_threads(
    finished: jaxtrain.Result, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(Interrupted, match="after step 8 of 12"):
        jaxtrain.fit(config(workers=3), tmp_path / "run", data_dir=folder, reporter=Reporter(Stop(8)))
    jaxtrain.fit(config(workers=2), tmp_path / "run", data_dir=folder)
    found, expected = outcome(tmp_path / "run"), outcome(finished.workdir)
    del found["metrics"], expected["metrics"]  # an interruption ends an interval of the log
    assert found == expected


def test_evaluate_run_gives_the_metrics_of_the_streamed_run(finished: jaxtrain.Result, folder: Path) -> None:
    record = evaluate_run(finished.workdir, "validation", "last", folder)
    assert {k: record[k] for k in ("loss", "accuracy")} == finished.final["validation"]
    assert record["examples"] == 5


@pytest.mark.parametrize("split", slow_except(["train", "test"], "test"))
def test_preview_data_shows_the_same_streamed_and_in_memory(folder: Path, split: str) -> None:
    shown = [preview_data(make_plan(config(stream=stream), folder), split, examples=4) for stream in (True, False)]
    np.testing.assert_array_equal(shown[0].before, shown[1].before)
    np.testing.assert_array_equal(shown[0].after, shown[1].after)
    assert shown[0].captions == shown[1].captions


def test_the_config_digest_depends_on_stream_and_shuffle_but_not_workers(folder: Path) -> None:
    assert digest(config(workers=1)) == digest(config(workers=3)) != digest(config(stream=False))
    assert digest(config(shuffle="permutation")) == digest(config()) != digest(config(shuffle="index"))


def test_check_reports_that_images_are_streamed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "streamed.json"
    path.write_text(dumps(config()))
    assert main(["check", str(path), "--data-dir", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "23 train, 5 validation, 10 test; 8x8x3 images read ahead of each step, 2 classes" in printed
    assert f"{3 * 8 * (8 * 8 * 3 + 4) / 1024:.1f} KiB" in printed  # one batch in use, two ahead


def test_full_batch_optimizers_refuse_streamed_data(folder: Path) -> None:
    wanted = config(batch_size=23, augment="").replace(optimizer="lbfgs", model="linear")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"set data.stream=false"):
        make_plan(wanted, folder)
