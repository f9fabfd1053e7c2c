"""`fit`: output files, resume, interruption by signals, divergence, the best checkpoint."""

import json
import os
import signal
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxtrain
from jaxtrain.config import CheckpointConfig, Config, EvaluationConfig, LoggingConfig, loads
from jaxtrain.errors import CheckpointError, DataError, Diverged, Interrupted, WorkdirError
from jaxtrain.reporting.display import SilentDisplay
from jaxtrain.reporting.reporter import Reporter
from jaxtrain.run import checkpoints
from jaxtrain.run.evaluate_run import evaluate_run
from jaxtrain.training.state import params_sha256
from tests.conftest import tiny_config
from tests.kill_and_resume import outcome


class SignalAt(SilentDisplay):
    """A display that sends this process a signal after a step."""

    def __init__(self, step: int, signum: signal.Signals):
        self._at, self._signum = step, signum

    def update_step(self, step: int) -> None:
        if step == self._at:
            os.kill(os.getpid(), self._signum)


def make_config(**changes: object) -> Config:
    """Return a config of 12 steps: logged every 2, evaluated every 4, saved every 5."""
    settings = {
        "logging": LoggingConfig(every="2 steps"),
        "evaluation": EvaluationConfig(every="4 steps", batch_size=8, best="loss"),
        "checkpoint": CheckpointConfig(every="5 steps"),
    }
    return tiny_config(**{**settings, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> jaxtrain.Result:
    return jaxtrain.fit(make_config(), tmp_path_factory.mktemp("fit") / "run")


def test_fit_writes_config_and_result_with_versions_and_metrics(finished: jaxtrain.Result) -> None:
    assert loads((finished.workdir / "config.json").read_text()) == make_config()
    result = json.loads((finished.workdir / "result.json").read_text())
    assert result["status"] == "finished"
    assert result["step"] == 12
    assert set(result["final"]) == set(result["best"]) == {"train", "validation", "test"}
    assert result["params_sha256"] == params_sha256(finished.state.params) == finished.params_sha256
    assert result["versions"]["jax"] == jax.__version__
    assert result["devices"] == ["cpu"]
    assert result["wall_seconds"] > 0


def test_fit_logs_metrics_at_the_configured_steps(finished: jaxtrain.Result) -> None:
    lines = [json.loads(line) for line in (finished.workdir / "metrics.jsonl").read_text().splitlines()]
    steps = {s: [r["step"] for r in lines if r["split"] == s] for s in ("train", "validation", "test")}
    assert steps == {"train": [2, 4, 5, 6, 8, 10, 12], "validation": [4, 8, 12], "test": [12]}
    assert all({"loss", "accuracy", "epoch"} <= set(r) for r in lines)
    # 96 - 16 held out leave 80 examples: 5 steps of 16 are an epoch
    assert [r["epoch"] for r in lines if r["split"] == "validation"] == [0.8, 1.6, 2.4]
    # a record holds the learning rate of the latest step, whose index is the number of steps minus one
    rates = [r["learning_rate"] for r in lines if r["split"] == "train"]
    expected = [0.05 * (1 + np.cos(np.pi * (s - 1) / 12)) for s in steps["train"]]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


def test_tensorboard_events_have_the_tags_of_the_metrics(finished: jaxtrain.Result) -> None:
    from tensorboardX.event_file_writer import EventFileWriter  # noqa: F401 - a missing package must not look like missing events

    events = list((finished.workdir / "tensorboard").glob("events.*"))
    assert events
    content = b"".join(p.read_bytes() for p in events)
    for tag in (b"train/loss", b"train/learning_rate", b"validation/accuracy", b"test/loss"):
        assert tag in content


def test_a_finished_run_is_not_trained_again(finished: jaxtrain.Result) -> None:
    before = outcome(finished.workdir)
    saved = {p: p.stat().st_mtime_ns for p in finished.workdir.joinpath("checkpoints").iterdir()}
    again = jaxtrain.fit(make_config(), finished.workdir)
    assert outcome(finished.workdir) == before
    assert again.params_sha256 == finished.params_sha256
    assert {p: p.stat().st_mtime_ns for p in finished.workdir.joinpath("checkpoints").iterdir()} == saved


def test_a_signal_saves_a_checkpoint_and_the_resumed_run_ends_the_same(
    finished: jaxtrain.Result, tmp_path: Path
) -> None:
    """Two signals interrupt the run: after its first step, and at a step with an evaluation."""
    handlers = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    for signum, code, step in ((signal.SIGTERM, 143, 1), (signal.SIGINT, 130, 8)):
        with pytest.raises(Interrupted, match=f"{signum.name} after step {step} of 12") as error:
            jaxtrain.fit(make_config(steps_per_dispatch=1), tmp_path / "run", reporter=Reporter(SignalAt(step, signum)))
        assert error.value.exit_code == code
        assert checkpoints.steps(tmp_path / "run" / "checkpoints")[-1] == step
        assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "interrupted"
        assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == handlers
    result = jaxtrain.fit(make_config(steps_per_dispatch=1), tmp_path / "run")
    assert result.params_sha256 == finished.params_sha256
    assert (result.final, result.best, result.best_step) == (finished.final, finished.best, finished.best_step)


def test_a_diverged_run_names_the_step_and_keeps_the_last_finite_checkpoint(tmp_path: Path) -> None:
    # The learning rate is reasonable for 6 steps and then huge.
    config = make_config(
        optimizer="sgd(learning_rate='multistep(0.01, boundaries=[\"6 steps\"], factor=1e30)')",
        checkpoint=CheckpointConfig(every="3 steps"),
        logging=LoggingConfig(every="1 steps"),
        evaluation=EvaluationConfig(every="100 steps"),
    )
    with pytest.raises(Diverged, match=r"step (\d+)") as error:
        jaxtrain.fit(config, tmp_path / "run")
    assert error.value.exit_code == 3
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert error.value.step == lines[-1]["step"] + 1, "every step before the one named was finite"
    saved = checkpoints.steps(tmp_path / "run" / "checkpoints")
    assert saved
    assert saved[-1] < error.value.step
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["status"], result["step"]) == ("diverged", error.value.step)


def test_fit_saves_no_checkpoint_of_parameters_that_are_not_finite(tmp_path: Path) -> None:
    # The loss before the step is finite; the step overflows the parameters, and a checkpoint is due right after it.
    config = make_config(
        optimizer="sgd(learning_rate=3e38, weight_decay=10.0)",
        train_for="1 steps",
        evaluation=EvaluationConfig(every="100 steps"),
    )
    with pytest.raises(Diverged, match="parameters after step 1 are not finite"):
        jaxtrain.fit(config, tmp_path / "run")
    assert checkpoints.steps(tmp_path / "run" / "checkpoints") == []


def test_a_damaged_newest_checkpoint_is_reported_and_skipped(finished: jaxtrain.Result, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        jaxtrain.fit(
            make_config(steps_per_dispatch=1), tmp_path / "run", reporter=Reporter(SignalAt(7, signal.SIGTERM))
        )
    newest = tmp_path / "run" / "checkpoints" / "00000007"
    victim = max((p for p in newest.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:-3])
    told: list[str] = []

    class Listen(SilentDisplay):
        def line(self, text: str, style: str = "") -> None:
            told.append(text)

    result = jaxtrain.fit(make_config(steps_per_dispatch=1), tmp_path / "run", reporter=Reporter(Listen()))
    assert any("00000007 is damaged" in line and "skipped" in line for line in told)
    assert "continuing from step 5 of 12" in told
    assert (tmp_path / "run" / "checkpoints" / "damaged-00000007").is_dir()
    assert result.params_sha256 == finished.params_sha256


def test_fit_refuses_a_run_directory_in_use(tmp_path: Path) -> None:
    import fcntl

    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(WorkdirError, match="another process is training"):
            jaxtrain.fit(make_config(), tmp_path / "run")


def test_fit_refuses_to_continue_a_run_on_other_data(finished: jaxtrain.Result, tmp_path: Path) -> None:
    path = finished.workdir / "preprocessing.json"
    before = path.read_text()
    stored = json.loads(before)
    stored["normalization"]["mean"] = [0.123]
    try:
        path.write_text(json.dumps(stored))
        with pytest.raises(DataError, match="training images are not those"):
            jaxtrain.fit(make_config(), finished.workdir)
    finally:
        path.write_text(before)


def test_evaluate_run_gives_the_metrics_of_the_run(finished: jaxtrain.Result) -> None:
    for split in ("train", "validation", "test"):
        for which, metrics in (("last", finished.final), ("best", finished.best)):
            record = evaluate_run(finished.workdir, split, which)
            assert {k: record[k] for k in ("loss", "accuracy")} == metrics[split]
    assert record["step"] == finished.best_step
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 3 .* there are"):
        evaluate_run(finished.workdir, checkpoint=3)


def test_the_best_step_has_the_lowest_validation_loss(finished: jaxtrain.Result) -> None:
    lines = [json.loads(line) for line in (finished.workdir / "metrics.jsonl").read_text().splitlines()]
    validation = {r["step"]: r["loss"] for r in lines if r["split"] == "validation"}
    assert finished.best_step == min(validation, key=validation.__getitem__)
    assert finished.best["validation"]["loss"] == validation[finished.best_step]


def test_fit_starts_in_a_directory_with_a_half_written_config(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").touch()
    (tmp_path / "run" / ".config.json.partial").write_text('{"mod')
    assert jaxtrain.fit(make_config(), tmp_path / "run").status == "finished"
    assert not (tmp_path / "run" / ".config.json.partial").exists()
