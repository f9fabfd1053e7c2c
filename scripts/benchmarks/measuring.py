"""How everything here is measured: contenders in turns, medians with their spread, ratios before speeds.

A shared machine drifts by a quarter within minutes, so a number by itself says little. What stands up is the ratio of
two measurements that followed each other; the median of these over the rounds is what is printed first.
"""

import dataclasses
import functools
import importlib.util
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Measure = Callable[[], float]
"""One measurement; a speed, or a time or size where less is better."""


Advance = Callable[[int], None]
"""Makes so many steps and waits for them."""


@dataclasses.dataclass(frozen=True)
class Unit:
    """What is measured: its name, whether more of it is better, and how many decimals are worth printing."""

    name: str
    more_is_better: bool = True
    decimals: int = 0


SPEED = Unit("steps/s")
SECONDS = Unit("s", more_is_better=False, decimals=2)
IMAGES = Unit("images/s")


def in_turns(contenders: Mapping[str, Measure], rounds: int) -> dict[str, list[float]]:
    """Every contender once a round, in an order that turns round with each, so that none always comes after the same.

    The first measurement of each is dropped: it warms up. One that fails is left out from then on, with a line.
    """
    found: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(rounds + 1):
        for name in names if turn % 2 else reversed(names):
            if name not in found:
                continue
            try:
                value = contenders[name]()
            except Failed as error:
                print(f"{name}: left out: {error}", flush=True)
                del found[name]
                continue
            if turn:
                found[name].append(value)
    return {name: values for name, values in found.items() if values}


def wall_and_cpu_times(
    contenders: Mapping[str, Advance], rounds: int, steps: int = 1
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds a step, by the clock and of this process's processors: of these other work takes less."""
    processors: dict[str, list[float]] = {name: [] for name in contenders}

    def measure(name: str) -> float:
        clock, used = time.perf_counter(), time.process_time()
        contenders[name](steps)
        processors[name].append((time.process_time() - used) / steps)
        return (time.perf_counter() - clock) / steps

    found = in_turns({name: functools.partial(measure, name) for name in contenders}, rounds)
    return found, {name: values[1:] for name, values in processors.items()}


class Failed(Exception):
    """A contender that could not be measured, and why."""


def report(title: str, found: Mapping[str, Sequence[float]], ours: str, unit: Unit = SPEED) -> list[str]:
    """Lines of a Markdown table: how many times as good `ours` is as each, then medians and spreads."""
    lines = [f"### {title}", "", f"| | {ours} is better by | {unit.name}, median [min-max] |", "| --- | --- | --- |"]
    for name, values in found.items():
        told = f"{_number(statistics.median(values), unit)} [{_number(min(values), unit)}-{_number(max(values), unit)}]"
        ratio = "" if name == ours or ours not in found else f"**{ratio_of(found[ours], values, unit):.3f}**"
        lines.append(f"| {_cell(name)} | {ratio} | {told} |")
    return [*lines, "", f"load average {' '.join(f'{x:.1f}' for x in os.getloadavg())}, {os.cpu_count()} cores"]


def ratio_of(ours: Sequence[float], theirs: Sequence[float], unit: Unit = SPEED) -> float:
    """The median over the rounds of how many times as good ours was."""
    pairs = zip(ours, theirs, strict=True)
    return statistics.median(a / b if unit.more_is_better else b / a for a, b in pairs)


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _number(value: float, unit: Unit) -> str:
    return f"{value:,.{unit.decimals}f}"


def missing(*packages: str) -> str:
    """The first of `packages` that is not installed, or ""."""
    return next((p for p in packages if importlib.util.find_spec(p) is None), "")


def speed(advance: Advance, steps: int) -> float:
    """Steps a second when `advance` makes `steps` and waits for them."""
    began = time.perf_counter()
    advance(steps)
    return steps / (time.perf_counter() - began)


def throughput(work: Callable[[], None], count: int) -> Measure:
    """How many a second, where `work` does `count` of them."""
    return lambda: count * speed(lambda _: work(), 1)


def steady_speed(advance: Advance, seconds: float) -> float:
    """Steps a second over about `seconds`, after enough steps to compile and to see how many these are."""
    advance(1)
    steps, found = 1, speed(advance, 1)
    while steps / found < seconds / 4:
        steps = max(steps + 1, min(10 * steps, int(found * seconds / 4) + 1))
        found = speed(advance, steps)
    return speed(advance, max(int(found * seconds), 1))


def in_process(benchmark: str, contender: str, **options: object) -> Measure:
    """Measures in a process of its own, which `bench.py --only` runs; for what would disturb others by its threads."""
    settings = [f"{key}={value}" for key, value in options.items()]
    command = [sys.executable, str(Path(__file__).parents[1] / "bench.py"), "--only", benchmark, contender, *settings]
    return lambda: float(completed(command, {}).stdout.split()[-1])


def whole_process(command: Sequence[str], environment: Mapping[str, str] | None = None) -> float:
    """Seconds from the start of a process to its end.

    Raises:
      Failed: where it ends in failure, with the last line of what it said.
    """
    began = time.perf_counter()
    completed(command, environment or {})
    return time.perf_counter() - began


def completed(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """What a process left that has `environment` on top of this one's.

    Raises:
      Failed: as above.
    """
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    if done.returncode:
        raise Failed(next(reversed(done.stderr.strip().splitlines()), f"exit code {done.returncode}"))
    return done
