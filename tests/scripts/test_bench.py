"""`scripts/bench.py`: turns, ratios, tables, contenders that fail or are not installed; two real measurements."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import slow

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def measuring(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import benchmarks.measuring

    return benchmarks.measuring


def bench(*arguments: str) -> str:
    command = [sys.executable, str(SCRIPTS / "bench.py"), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_benchmark_contenders_take_turns_and_drop_their_first_measurement(measuring: ModuleType) -> None:
    seen: list[str] = []

    def contender(name: str, values: list[float]) -> object:
        def measure() -> float:
            seen.append(name)
            return values[seen.count(name) - 1]

        return measure

    found = measuring.in_turns({"a": contender("a", [9.0, 2.0, 4.0]), "b": contender("b", [9.0, 1.0, 8.0])}, 2)
    assert found == {"a": [2.0, 4.0], "b": [1.0, 8.0]}
    assert seen == ["b", "a", "a", "b", "b", "a"]


def test_a_benchmark_contender_that_fails_is_left_out(
    measuring: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> float:
        raise measuring.Failed("no such thing")

    assert measuring.in_turns({"a": lambda: 1.0, "b": fails}, 2) == {"a": [1.0, 1.0]}
    assert "b: left out: no such thing" in capsys.readouterr().out
    assert measuring.missing("json", "no_such_package_at_all") == "no_such_package_at_all"


def test_the_benchmark_ratio_is_a_median_above_one_if_jaxtrain_is_better(measuring: ModuleType) -> None:
    ours, theirs = [100.0, 50.0, 30.0], [50.0, 40.0, 30.0]
    assert measuring.ratio_of(ours, theirs) == 1.25
    assert measuring.ratio_of(ours, theirs, measuring.SECONDS) == 0.8
    lines = measuring.report("net", {"jaxtrain": ours, "other": theirs}, "jaxtrain")
    assert "| other | **1.250** | 40 [30-50] |" in lines
    assert "| jaxtrain |  | 50 [30-100] |" in lines
    assert any(line.startswith("load average") for line in lines)


def test_a_benchmark_speed_is_steps_per_second_without_compilation(
    measuring: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: now[0])
    made: list[int] = []

    def advance(steps: int) -> None:
        now[0] += 5.0 if not made else 0.01 * steps  # the first call compiles
        made.append(steps)

    assert measuring.speed(lambda steps: advance(steps) or advance(steps), 1) == pytest.approx(1 / 5.01)
    made.clear()
    assert measuring.steady_speed(advance, 2.0) == pytest.approx(100)
    assert made[-1] * 0.01 == pytest.approx(2.0, rel=0.05)
    assert sum(made) < 2 * made[-1]


def test_wall_and_cpu_times_returns_wall_time_and_processor_time(
    measuring: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, used = [0.0], [0.0]
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(measuring.time, "process_time", lambda: used[0])

    def advance(steps: int) -> None:  # waits half of the time
        clock[0] += steps * 2.0
        used[0] += steps * 1.0

    assert measuring.wall_and_cpu_times({"a": advance}, 3, steps=4) == ({"a": [2.0] * 3}, {"a": [1.0] * 3})


def test_a_failed_benchmark_process_reports_its_error(measuring: ModuleType) -> None:
    command = [sys.executable, "-c", "import os, sys; sys.exit(os.environ.get('WHY'))"]
    assert measuring.whole_process(command) > 0
    with pytest.raises(measuring.Failed, match="no luck"):
        measuring.whole_process(command, {"WHY": "no luck"})


def test_bench_lists_every_benchmark_and_refuses_an_unknown_one() -> None:
    lines = bench("--list").splitlines()
    assert [line.split()[0] for line in lines] == [
        *("overhead", "frameworks", "scaling", "convolutions", "steps", "optimizers"),
        *("pictures", "stored", "augmentation", "startup", "epoch", "checkpoints", "freed_memory"),
    ]
    with pytest.raises(subprocess.CalledProcessError) as error:
        bench("nothing")
    assert "there is no benchmark 'nothing'" in error.value.stderr


@pytest.mark.slow
@pytest.mark.parametrize("contender", ["jaxtrain", slow("bare jax")])
def test_a_benchmark_can_run_in_its_own_process(measuring: ModuleType, contender: str) -> None:
    assert measuring.in_process("frameworks", contender, net="tiny", batch=32, seconds=0.05)() > 1
    with pytest.raises(measuring.Failed, match="KeyError"):
        measuring.in_process("frameworks", contender, net="none", batch=32, seconds=0.05)()
