"""Runs with two processes on this machine: compared to one, stopped, killed and restarted, with wrong arguments."""

import importlib.util
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import psutil
import pytest
from jax._src import distributed

from jaxtrain.config import Config, DataConfig, EvaluationConfig, apply_overrides, dumps
from jaxtrain.data.source import ArraySource
from jaxtrain.distributed import processes
from jaxtrain.errors import ConfigError, PeerDied
from jaxtrain.run import checkpoints
from jaxtrain.run.fit import fit
from jaxtrain.run.session import restore_target
from jaxtrain.training.plan import make_plan
from scripts.make_shards import write_shards
from tests.conftest import tiny_config
from tests.levels import slow_except

ROOT = Path(__file__).parent.parent.parent


def config() -> Config:
    """Return a config of twenty steps with dropout, augmentation and batch normalization."""
    changes = [
        "data.dataset=synthetic(height=8, width=8, num_classes=4, train_examples=160, test_examples=16)",
        "data.augment=pad_crop(2)|flip_lr",
        "checkpoint.every=3 steps",
        "logging.every=1 steps",
        "logging.tensorboard=false",
    ]
    model = "wide_resnet(depth=10, width=1, dropout_rate=0.3, activation=gelu)"
    run = tiny_config(model=model, optimizer="momentum(learning_rate=0.05)", train_for="20 steps", devices=None)
    return apply_overrides(run, changes)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "config.json"
    path.write_text(dumps(config()))
    return path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def launch(recipe: Path, workdir: Path, processes: int, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    command = [sys.executable, "scripts/launch_local.py", str(processes), "--", str(recipe), "--workdir", str(workdir)]
    command += arguments
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    return output


def params(workdir: Path, run: Config) -> Any:
    plan = make_plan(run)
    return jax.tree.map(np.asarray, checkpoints.restore(workdir / "checkpoints", 20, restore_target(plan))[0].params)


def digest(workdir: Path) -> str:
    return str(json.loads((workdir / "result.json").read_text())["params_sha256"])


def distance(a: Any, b: Any) -> float:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.abs(x - y).max() / np.abs(x).max()) for x, y in pairs)


@pytest.fixture(scope="module")
def undisturbed(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("two") / "run"
    finish(launch(recipe, workdir, 2))
    return workdir


@pytest.mark.slow
def test_training_a_residual_network_in_two_processes_equals_training_in_one(undisturbed: Path, tmp_path: Path) -> None:
    alone = fit(config().replace(devices=1), tmp_path / "alone")
    assert distance(jax.tree.map(np.asarray, alone.state.params), params(undisturbed, config())) < 1e-5  # type: ignore[union-attr]


@pytest.fixture
def double() -> Iterator[None]:
    """Enable double precision also in the threads that restore a checkpoint, unlike `jax.enable_x64`."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.mark.exhaustive
@pytest.mark.usefixtures("double")
def test_training_in_two_processes_equals_one_in_double_precision(tmp_path: Path) -> None:
    run = apply_overrides(config(), ["model.dtype=float64", "model.param_dtype=float64"])
    (tmp_path / "recipe.json").write_text(dumps(run))
    finish(launch(tmp_path / "recipe.json", tmp_path / "two", 2, JAX_ENABLE_X64="1"))
    alone = fit(run.replace(devices=1), tmp_path / "alone").state.params  # type: ignore[union-attr]
    two = params(tmp_path / "two", run)
    assert all(x.dtype == np.float64 for x in jax.tree.leaves(two))
    assert distance(jax.tree.map(np.asarray, alone), two) < 1e-10


@pytest.mark.slow
def test_streamed_training_and_evaluation_in_two_processes_equal_those_in_one(tmp_path: Path) -> None:
    """7 validation examples in chunks of 4: neither the count nor the last chunk divides evenly among two."""
    draw = np.random.RandomState(0)
    for split, count in (("train", 47), ("test", 9)):
        labels = draw.randint(0, 4, count).astype(np.int32)
        images = (draw.randint(0, 150, (count, 8, 8, 3)) + 35 * labels.reshape(-1, 1, 1, 1)).astype(np.uint8)
        write_shards(tmp_path / "data", split, [ArraySource(images, labels)])
    data = DataConfig(dataset="shards", batch_size=8, validation="7 examples", augment="flip_lr", stream=True)
    run = tiny_config(data=data, evaluation=EvaluationConfig(every="5 steps", batch_size=4), train_for="10 steps")
    (tmp_path / "recipe.json").write_text(dumps(run.replace(devices=None)))
    output = finish(launch(tmp_path / "recipe.json", tmp_path / "two", 2, "--data-dir", str(tmp_path / "data")))
    assert "[0] final" in output
    assert "[1] final" not in output
    alone = fit(run.replace(devices=1), tmp_path / "one", data_dir=tmp_path / "data")
    found = json.loads((tmp_path / "two" / "result.json").read_text())
    for name in ("train", "validation", "test"):
        assert found["final"][name] == pytest.approx(alone.final[name], rel=1e-5)
    assert found["devices"] == ["cpu", "cpu"]
    lines = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if line["split"] == "train"]
    assert steps == sorted(set(steps)), "one process writes"


@pytest.mark.slow
def test_a_killed_two_process_run_resumes_with_two_processes_and_with_one(
    recipe: Path, undisturbed: Path, tmp_path: Path
) -> None:
    draw = random.Random(3)
    victim, at = draw.randrange(2), draw.randrange(4, 16)
    workdir = tmp_path / "run"
    running = launch(recipe, workdir, 2)
    deadline = time.monotonic() + 300
    while not (workdir / "metrics.jsonl").exists() or len((workdir / "metrics.jsonl").read_text().splitlines()) < at:
        assert running.poll() is None, running.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    children = psutil.Process(running.pid).children()
    next(process for process in children if process.cmdline()[-1] == str(victim)).send_signal(signal.SIGKILL)
    killed = time.monotonic()
    output, _ = running.communicate(timeout=60)
    assert time.monotonic() - killed < 30
    assert f"process {victim} of 2 has ended before the end of the run" in output
    assert running.returncode in (4, 137)
    shutil.copytree(workdir, tmp_path / "other")

    assert "continuing from step" in finish(launch(recipe, workdir, 2))
    assert digest(workdir) == digest(undisturbed)
    assert "continuing from step" in finish(launch(recipe, tmp_path / "other", 1))
    assert distance(params(tmp_path / "other", config()), params(undisturbed, config())) < 1e-5


@pytest.mark.quick_cases("0-2-130")
@pytest.mark.parametrize(("who", "signum", "code"), [(1, signal.SIGTERM, 143), (0, signal.SIGINT, 130)])
def test_a_signal_to_one_process_stops_both_at_the_same_saved_step(
    tmp_path: Path, who: int, signum: signal.Signals, code: int
) -> None:
    changes = ["model=linear", "train_for=100000 steps", "checkpoint.every=100000 steps"]
    run = apply_overrides(config(), changes)
    (tmp_path / "recipe.json").write_text(dumps(run))
    running = launch(tmp_path / "recipe.json", tmp_path / "run", 2)
    deadline = time.monotonic() + 300
    while not (tmp_path / "run" / "metrics.jsonl").exists():
        assert running.poll() is None, running.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    children = psutil.Process(running.pid).children()
    next(process for process in children if process.cmdline()[-1] == str(who)).send_signal(signum)
    output, _ = running.communicate(timeout=120)
    steps = dict(re.findall(rf"^\[(\d)\] .*stopped by {signum.name} after step (\d+) of", output, re.MULTILINE))
    assert running.returncode == code, output
    assert set(steps) == {"0", "1"}, output
    assert set(steps.values()) == {str(checkpoints.steps(tmp_path / "run" / "checkpoints")[-1])}


FAILING = """
import os, signal, sys
import numpy as np
from jax.experimental import multihost_utils
from jaxtrain.errors import DataError
from jaxtrain.distributed import processes
who, kind, port, index = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
processes.join("127.0.0.1:" + port, 2, index)
try:
    with processes.watch_processes():
        if index == who and kind != "SIGKILL":
            raise {"DataError": DataError, "ValueError": ValueError}[kind]("a broken thing")
        for step in range(100_000):
            if index == who and step == 30:
                os.kill(os.getpid(), signal.SIGKILL)
            multihost_utils.broadcast_one_to_all(np.int32(step))
except DataError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def run_failing(who: int, kind: str) -> tuple[list[int], list[str]]:
    """Return the exit codes and outputs of two processes; process `who` fails as `kind` says."""
    port = str(free_port())
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1", "NPROC": "4"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", FAILING, str(who), kind, port, str(index)],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for index in range(2)
    ]
    said = [process.communicate(timeout=60)[1] for process in running]
    return [process.returncode for process in running], said


@pytest.mark.parametrize(
    ("who", "kind", "code"),
    [
        pytest.param(0, "DataError", 2, marks=pytest.mark.slow),
        pytest.param(1, "DataError", 2, marks=pytest.mark.slow),
        (1, "ValueError", 1),
    ],
)
def test_a_failing_process_ends_itself_and_the_other_at_once(who: int, kind: str, code: int) -> None:
    codes, said = run_failing(who, kind)
    assert codes[who] == code, said
    assert "a broken thing" in said[who]
    assert "stack trace" not in said[who]
    assert codes[1 - who] == 4, said
    assert f"process {who} of 2 has failed" in said[1 - who]
    assert "a broken thing" in said[1 - who]


@pytest.mark.slow
@pytest.mark.parametrize("who", slow_except([0, 1], 1))
def test_a_process_killed_in_a_collective_is_named_by_the_other(who: int) -> None:
    """The collective fails in the other process too."""
    codes, said = run_failing(who, "SIGKILL")
    assert codes[1 - who] == 4, said
    assert f"process {who} of 2 has ended before the end of the run" in said[1 - who]
    assert "Traceback" not in said[1 - who]
    assert "stack trace" not in said[1 - who]


@pytest.mark.parametrize("index", slow_except([0, 1], 1))
def test_join_reports_missing_processes_without_a_stack_trace(index: int) -> None:
    address = f"127.0.0.1:{free_port()}"
    code = f"from jaxtrain.distributed.processes import join; join('{address}', 2, {index}, timeout=3)"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert (
        f"did not connect within 3 s; check that all of them are started, and that they reach process 0 at {address}"
        in ended.stderr
    )
    assert "stack trace" not in ended.stderr


def test_find_coordinator_host_reads_the_address_from_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    for address, host in (("10.0.0.1:1234", "10.0.0.1"), ("[fd00::1]:1234", "fd00::1")):
        monkeypatch.setattr(
            distributed.global_state, "coordinator_address", address
        )  # raises if the attribute does not exist
        assert processes.find_coordinator_host() == host


def test_watch_processes_exits_if_a_peer_cannot_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise PeerDied("process 1 of 2 has not connected")

    registered: list[Any] = []
    monkeypatch.setattr(processes, "single_process", lambda: False)
    monkeypatch.setattr(processes, "_connect", missing)
    monkeypatch.setattr(processes.atexit, "register", lambda *args: registered.append(args))
    with pytest.raises(PeerDied, match="has not connected"), processes.watch_processes():
        pytest.fail("nothing is run")
    assert registered == [(processes.exit_now, 4)]


def test_join_refuses_an_incomplete_cluster_description(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise ValueError("Number of processes must be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", refuse)
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "10.0.0.1:1234")
    with pytest.raises(ConfigError, match=r"must be defined.*set --coordinator, --processes and --process-id"):
        processes.join()
    monkeypatch.delenv("JAX_COORDINATOR_ADDRESS")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    processes.join()  # a TPU library is installed, but there is no pod


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("10.0.0.1:1234", 2, None), "--coordinator, --processes and --process-id must be set together"),
        (("10.0.0.1", 2, 0), "--coordinator 10.0.0.1 is not HOST:PORT"),
        (("10.0.0.1:1234", 0, 0), "--processes 0: it must be at least 1"),
        (("10.0.0.1:1234", 2, 2), "--process-id 2: with 2 processes it must be from 0 to 1"),
    ],
)
def test_join_refuses_inconsistent_arguments(arguments: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        processes.join(*arguments)


def test_join_does_nothing_outside_of_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args, **kwargs: pytest.fail("joined"))
    processes.join()
    processes.join("10.0.0.1:1234", 1, 0)


@pytest.mark.parametrize(
    "environment",
    [
        {"SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": "node[1-2]"},
        {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "1"},
        {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"},
    ],
)
def test_join_leaves_a_known_cluster_to_jax(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args, **kwargs: asked.append(args))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    processes.join()
    assert asked == [(None, None, None)]


def test_join_reports_a_failed_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("Unable to connect\nat all")

    monkeypatch.setattr(jax.distributed, "initialize", refuse)
    with pytest.raises(ConfigError, match=r"could not connect: Unable to connect$"):
        processes.join("10.0.0.1:1234", 2, 0)
