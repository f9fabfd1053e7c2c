"""Reading of a profiler's trace: the operations that ran on a device, their times, and the gaps between runs.

The trace is the `.xplane.pb` file that `jax.profiler` writes; jax reads it. An operation is an event that names its HLO
operation. On a CPU these events are in the host's threads; GPUs and TPUs have planes of their own.
"""

import dataclasses
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

Interval = tuple[float, float]
"""Start and end in seconds."""


@dataclasses.dataclass(frozen=True)
class OperationTime:
    """The time of an operation of the compiled program, over all its calls.

    Attributes:
      name: name of the HLO operation.
      seconds: time of all calls, without the operations inside it.
      calls: number of calls.
    """

    name: str
    seconds: float
    calls: int


@dataclasses.dataclass(frozen=True)
class Trace:
    """The trace of one device.

    Attributes:
      operations: operations sorted by their own time, the longest first.
      runs: start and end of each run of the traced programs, in order.
      busy: seconds in which any operation ran, from the start of the first run to the end of the last.
    """

    operations: tuple[OperationTime, ...]
    runs: tuple[Interval, ...]
    busy: float

    @property
    def gaps(self) -> tuple[float, ...]:
        """The seconds from the end of each run to the start of the next."""
        return tuple(max(b[0] - a[1], 0.0) for a, b in zip(self.runs, self.runs[1:], strict=False))


class _Event(NamedTuple):
    name: str
    start: float
    end: float
    run: Any


def read_trace(path: Path, module: str) -> Trace:
    """Read the runs of the programs whose HLO module name begins with `module`, on the first device with such runs.

    Args:
      path: path of an `.xplane.pb` file.
      module: beginning of the module name, such as "jit_dispatch".

    Raises:
      ValueError: no such program ran during the trace.
    """
    from jax.profiler import ProfileData

    data = ProfileData.from_file(str(path))  # must outlive the objects read from it
    with warnings.catch_warnings():
        # With warnings as errors, the DeprecationWarning of a jaxlib type without a module aborts Python 3.12.
        warnings.simplefilter("ignore", DeprecationWarning)
        for plane in sorted(data.planes, key=lambda plane: (_plane_rank(plane.name), plane.name)):
            threads = [events for line in plane.lines if (events := list(_operations(line, module)))]
            if threads:
                return _trace(threads)
    raise ValueError(f"no operation of {module} in {path}; trace a run of that program")


_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (.*)")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
_ORIGIN = re.compile(r'metadata=\{[^}]*op_name="([^"]+)"')
_CALLED = re.compile(r"calls=%?([\w.\-]+)")
_OPCODE = re.compile(r"(\w+\[[\d,]*\])\S* (convolution|dot)\(")
_LEADING = re.compile(r"^(jit\(\w+\)/|while/body/|closed_call/)+")


def operation_origins(program: str) -> dict[str, str]:
    """Return the origins of the operations of an HLO program: `{"fusion.4": "jvp(LeNet5)/conv1/conv_general_dilated"}`.

    A fusion without an origin gets that of the matrix multiplication or convolution inside it, or else that of its last
    inner operation with an origin. Where no inner operation has one, it gets the kind and output shape of the
    convolution or matrix multiplication inside it.
    """
    found: dict[str, str] = {}
    inside: dict[str, str] = {}
    calls: dict[str, str] = {}
    computation = ""
    for line in program.splitlines():
        if opened := _COMPUTATION.match(line):
            computation = opened[1]
        elif instruction := _INSTRUCTION.match(line):
            name, rest = instruction.groups()
            if origin := _ORIGIN.search(rest):
                found[name] = path = _LEADING.sub("", origin[1])
                if not _is_matmul_or_conv(inside.get(computation, "")):
                    inside[computation] = path
            elif called := _CALLED.search(rest):
                calls[name] = called[1]
            elif opcode := _OPCODE.match(rest):
                inside.setdefault(computation, f"{opcode[2]} to {opcode[1]}")
    return {name: inside[called] for name, called in calls.items() if called in inside} | found


def _is_matmul_or_conv(path: str) -> bool:
    return path.endswith(("dot_general", "conv_general_dilated"))


def _plane_rank(name: str) -> int:
    """Return a sort key that puts devices before the host, whose plane repeats the operations of the devices."""
    return 0 if name.startswith("/device:") else 1


def _operations(line: Any, module: str) -> Iterator[_Event]:
    for event in line.events:
        if event.duration_ns <= 0:
            continue
        stats = dict(event.stats)
        if "hlo_op" in stats and str(stats.get("hlo_module", "")).startswith(module):
            start = event.start_ns * 1e-9
            name = str(stats["hlo_op"])
            yield _Event(name, start, start + event.duration_ns * 1e-9, stats.get("run_id", stats.get("group_id")))


def _trace(threads: list[list[_Event]]) -> Trace:
    seconds: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    for events in threads:
        for event, own in own_times(events):
            seconds[event.name] += own
            calls[event.name] += 1
    all_events = [event for events in threads for event in events]
    operations = [OperationTime(name, seconds[name], calls[name]) for name in seconds]
    by_run: dict[Any, list[_Event]] = defaultdict(list)
    for event in all_events:
        by_run[event.run].append(event)
    runs = sorted((min(e.start for e in events), max(e.end for e in events)) for events in by_run.values())
    return Trace(
        operations=tuple(sorted(operations, key=lambda op: -op.seconds)),
        runs=tuple(runs),
        busy=union_seconds((e.start, e.end) for e in all_events),
    )


def own_times(events: Iterable[_Event]) -> Iterator[tuple[_Event, float]]:
    """Yield each event of a thread with its duration minus that of the events directly inside it, as in a loop."""
    stack: list[tuple[_Event, list[float]]] = []
    for event in sorted(events, key=lambda e: (e.start, -e.end)):
        while stack and stack[-1][0].end <= event.start:
            yield _subtract_inner(*stack.pop())
        if stack:
            stack[-1][1].append(event.end - event.start)
        stack.append((event, []))
    while stack:
        yield _subtract_inner(*stack.pop())


def _subtract_inner(event: _Event, inner: list[float]) -> tuple[_Event, float]:
    return event, max(event.end - event.start - sum(inner), 0.0)


def union_seconds(intervals: Iterable[Interval]) -> float:
    """Return the length of the union of the intervals, in seconds."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(end - max(start, reached), 0.0)
        reached = max(reached, end)
    return total
