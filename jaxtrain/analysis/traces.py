"""Reading a profiler's trace: what ran on the devices, for how long, and when nothing did.

The trace is the `.xplane.pb` that `jax.profiler` writes, read by jax itself. An operation is an event that names its
HLO operation; on a CPU such events lie among the host's threads, on GPUs and TPUs on planes of their own.
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
class Operation:
    """What an operation of the compiled program took, over all its calls.

    Attributes:
      name: of the HLO operation.
      seconds: without what ran inside it.
      calls: how often it ran.
    """

    name: str
    seconds: float
    calls: int


@dataclasses.dataclass(frozen=True)
class Trace:
    """What a trace says of one device.

    Attributes:
      operations: by their own time, longest first.
      runs: of the traced programs, in order.
      busy: seconds in which any operation ran, from the first run to the end of the last.
    """

    operations: tuple[Operation, ...]
    runs: tuple[Interval, ...]
    busy: float

    @property
    def gaps(self) -> tuple[float, ...]:
        """Seconds from the end of each run to the start of the next."""
        return tuple(max(b[0] - a[1], 0.0) for a, b in zip(self.runs, self.runs[1:], strict=False))


class _Event(NamedTuple):
    name: str
    start: float
    end: float
    run: Any


def read_trace(path: Path, module: str) -> Trace:
    """The runs of programs whose HLO module's name begins with `module`, on the first device that has any.

    Args:
      path: an `.xplane.pb`.
      module: "jit_dispatch", say.

    Raises:
      ValueError: no such program ran while the trace was taken.
    """
    from jax.profiler import ProfileData

    data = ProfileData.from_file(str(path))  # which must outlive its parts
    with warnings.catch_warnings():
        # Where warnings are errors, that of a type of jaxlib without a module aborts the process (Python 3.12).
        warnings.simplefilter("ignore", DeprecationWarning)
        for plane in sorted(data.planes, key=lambda plane: (_rank(plane.name), plane.name)):
            threads = [events for line in plane.lines if (events := list(_operations(line, module)))]
            if threads:
                return _trace(threads)
    raise ValueError(f"no operation of {module} in {path}")


_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (.*)")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
_ORIGIN = re.compile(r'metadata=\{[^}]*op_name="([^"]+)"')
_CALLED = re.compile(r"calls=%?([\w.\-]+)")
_OPCODE = re.compile(r"(\w+\[[\d,]*\])\S* (convolution|dot)\(")
_LEADING = re.compile(r"^(jit\(\w+\)/|while/body/|closed_call/)+")


def origins(program: str) -> dict[str, str]:
    """Where the operations of an HLO `program` come from: `{"fusion.4": "jvp(LeNet5)/conv1/conv_general_dilated"}`.

    Of a fusion that does not say, the product or convolution inside it, or else the last operation that does; where
    none does, what kind of operation it is and the shape it gives.
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
                if not _heavy(inside.get(computation, "")):
                    inside[computation] = path
            elif called := _CALLED.search(rest):
                calls[name] = called[1]
            elif opcode := _OPCODE.match(rest):
                inside.setdefault(computation, f"{opcode[2]} to {opcode[1]}")
    return {name: inside[called] for name, called in calls.items() if called in inside} | found


def _heavy(path: str) -> bool:
    return path.endswith(("dot_general", "conv_general_dilated"))


def _rank(name: str) -> int:
    """Devices before the host, whose plane repeats what was launched there."""
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
    everything = [event for events in threads for event in events]
    operations = [Operation(name, seconds[name], calls[name]) for name in seconds]
    by_run: dict[Any, list[_Event]] = defaultdict(list)
    for event in everything:
        by_run[event.run].append(event)
    runs = sorted((min(e.start for e in events), max(e.end for e in events)) for events in by_run.values())
    return Trace(
        operations=tuple(sorted(operations, key=lambda op: -op.seconds)),
        runs=tuple(runs),
        busy=covered((e.start, e.end) for e in everything),
    )


def own_times(events: Iterable[_Event]) -> Iterator[tuple[_Event, float]]:
    """Each event of a thread with its duration less that of the events directly inside it (a loop's body, say)."""
    stack: list[tuple[_Event, list[float]]] = []
    for event in sorted(events, key=lambda e: (e.start, -e.end)):
        while stack and stack[-1][0].end <= event.start:
            yield _closed(*stack.pop())
        if stack:
            stack[-1][1].append(event.end - event.start)
        stack.append((event, []))
    while stack:
        yield _closed(*stack.pop())


def _closed(event: _Event, inner: list[float]) -> tuple[_Event, float]:
    return event, max(event.end - event.start - sum(inner), 0.0)


def covered(intervals: Iterable[Interval]) -> float:
    """Seconds that lie in any of the intervals."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(end - max(start, reached), 0.0)
        reached = max(reached, end)
    return total
