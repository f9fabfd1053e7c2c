"""The time that devices wait for data: gaps between steps in which the host waits, and the advice about them."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import jaxtrain
from jaxtrain.config import LoggingConfig
from jaxtrain.data.device_stream import TrainingStream
from jaxtrain.reporting.display import SilentDisplay, format_record
from jaxtrain.reporting.reporter import Reporter
from jaxtrain.run.compiled_run import CompiledRun
from jaxtrain.run.data_wait import MeteredBatches, data_wait_advice
from tests.conftest import tiny_config
from tests.run import test_streamed_runs as streamed_runs


class Notes(SilentDisplay):
    """A display that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str, style: str = "") -> None:
        del style
        self.lines.append(text)


class Clock:
    """The host's clock, set by the test; the waiting thread reads the end of each step."""

    def __init__(self) -> None:
        self.now, self.ended = 0.0, 0.0
        self._main = threading.current_thread()

    def __call__(self) -> float:
        return self.now if threading.current_thread() is self._main else self.ended


class Tick:
    def __init__(self, clock: Clock, ends: float):
        self.clock, self.ends = clock, ends

    def block_until_ready(self) -> None:
        self.clock.ended = self.ends


@pytest.mark.parametrize(
    ("decode", "step", "idle"),
    [
        (4.0, 1.0, 3.0),  # the batch is late by the excess over the step's time
        (4.0, 3.5, 0.5),
        (4.0, 5.0, 0.0),  # the host waits, the device does not
        (0.0, 1.0, 0.0),  # the device waits, and not for data
    ],
)
def test_data_wait_is_the_device_idle_time_spent_on_loading_a_batch(
    monkeypatch: pytest.MonkeyPatch, decode: float, step: float, idle: float
) -> None:
    clock = Clock()
    monkeypatch.setattr("jaxtrain.run.data_wait.time.perf_counter", clock)

    class Stream:
        def __call__(self, step: int) -> int:
            clock.now += decode
            return step

        def close(self) -> None:
            pass

    meter = MeteredBatches(Stream())  # type: ignore[arg-type]
    ends = 0.0
    for number in range(5):
        assert meter(number) == number
        clock.now += 0.0 if decode else 2.0  # other work of the host
        ends = max(ends, clock.now) + step
        meter.mark_dispatched(Tick(clock, ends))
    meter.close()
    assert meter.seconds_waited == pytest.approx(4 * idle)


@pytest.mark.slow
def test_a_run_reports_its_waiting_time_for_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call, notes = TrainingStream.__call__, Notes()

    def slow(self: TrainingStream, step: int) -> Any:
        time.sleep(0.1)
        return call(self, step)

    monkeypatch.setattr(TrainingStream, "__call__", slow)
    folder = streamed_runs.write_images(tmp_path / "images")
    jaxtrain.fit(streamed_runs.config(), tmp_path / "run", data_dir=folder, reporter=Reporter(notes))
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    records = [r for r in map(json.loads, lines) if r["split"] == "train"]
    assert all(0 <= r["data_wait"] <= 1 for r in records)
    most = max(records, key=lambda r: r["data_wait"])  # the wait of a short interval may appear in the next
    assert most["data_wait"] > 0.3
    assert "waiting for data" in format_record(most, None)
    assert any("of the training time for data" in line and "data.workers" in line for line in notes.lines)


@pytest.mark.parametrize(
    ("workers", "decoded", "said"),
    [
        (0, True, "waited 40 % of the training time for data, which the main thread decoded; to make the run faster"),
        (1, False, "which 1 thread read; to make the run faster, use more threads (data.workers, up to the number of"),
        (3, True, "which 3 threads decoded"),
    ],
)
def test_data_wait_advice_depends_on_decoding_and_workers(workers: int, decoded: bool, said: str) -> None:
    text = data_wait_advice(0.4, workers, decoded=decoded)
    assert said in text
    assert ("data.resize" in text) is decoded
    assert ("data.stream" in text) is not decoded


@pytest.mark.slow
def test_a_run_with_data_in_memory_reports_no_waiting_time(tmp_path: Path) -> None:
    notes = Notes()
    jaxtrain.fit(tiny_config(), tmp_path / "run", reporter=Reporter(notes))
    assert "data_wait" not in (tmp_path / "run" / "metrics.jsonl").read_text()
    assert not any("time for data" in line for line in notes.lines)


def test_a_run_warns_of_a_step_that_is_compiled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes, programs = Notes(), iter([1, 1, 2, 2, 2, 2, 2, 2, 2])
    monkeypatch.setattr(CompiledRun, "count_programs", lambda _: next(programs))
    config = tiny_config(logging=LoggingConfig(every="3 steps", tensorboard=False))
    jaxtrain.fit(config, tmp_path / "run", reporter=Reporter(notes))
    told = [line for line in notes.lines if "compiled again" in line]
    assert len(told) == 1
    assert "before step 6" in told[0]
