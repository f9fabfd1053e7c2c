"""How far the host runs ahead: it waits rarely while steps are short, and often when they are long."""

import pytest

from jaxtrain.run.pace import Pace


class Device:
    """A device with a clock; records when the host waited for which step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.now = 0.0
        self.waits: list[tuple[int, int]] = []
        self.step = 0
        monkeypatch.setattr("jaxtrain.run.pace.time.perf_counter", lambda: self.now)

    def run(self, pace: Pace, steps: int, seconds: float) -> None:
        for _ in range(steps):
            self.step += 1
            self.now += seconds
            pace.throttle(Tick(self, self.step))  # type: ignore[arg-type]


class Tick:
    def __init__(self, device: Device, step: int):
        self.device, self.step = device, step

    def block_until_ready(self) -> None:
        self.device.waits.append((self.step, self.device.step))


def test_the_host_waits_rarely_and_late_for_short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch)
    device.run(Pace(64), 10_000, 0.0001)
    assert len(device.waits) < 10_000 / 64 + 10
    assert all(64 <= at - step <= 128 for step, at in device.waits[10:])


def test_the_host_waits_for_every_long_step(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch)
    device.run(Pace(64), 20, 3.0)
    assert device.waits == [(step, step + 1) for step in range(1, 20)]


def test_the_pace_adapts_when_steps_become_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch)
    pace = Pace(64)
    device.run(pace, 1000, 0.0001)
    device.run(pace, 300, 1.0)
    step, at = device.waits[-1]
    assert at - step == 1


def test_a_pace_of_one_keeps_the_host_one_step_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch)
    device.run(Pace(1), 100, 0.0001)
    assert device.waits == [(step, step + 1) for step in range(1, 100)]
