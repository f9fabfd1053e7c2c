"""Terminal tables: parameters, dtypes, memory, activation statistics, and differences of configs and results."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from jaxtrain.optim.param_rules import ParameterInfo

WIDE_COLUMNS = 132
"""Width of wide tables, in characters, where the output is not a terminal."""


def wide_console() -> Console:
    """Return a console for wide tables: as wide as the terminal or $COLUMNS, else `WIDE_COLUMNS`."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=WIDE_COLUMNS)


def parameter_table(rows: Sequence[ParameterInfo]) -> Table:
    """Return a table of all parameters: shape, dtype, weight decay, learning-rate multiplier, frozen or not."""
    table = Table(title="parameters", show_footer=True, title_justify="left")
    table.add_column("path", footer="total", overflow="fold")
    table.add_column("shape")
    table.add_column("dtype")
    table.add_column("count", footer=f"{sum(r.count for r in rows):,}", justify="right")
    table.add_column("decay", justify="right")
    table.add_column("lr x", justify="right")
    table.add_column("frozen")
    for r in rows:
        shape = "x".join(map(str, r.shape)) or "scalar"
        decay = "-" if r.frozen or not r.decay else f"{r.decay:g}"
        rate = "-" if r.frozen else f"{r.learning_rate:g}"
        table.add_row(r.path, shape, r.dtype, f"{r.count:,}", decay, rate, "frozen" if r.frozen else "")
    return table


def dtype_table(rows: Sequence[tuple[str, str]]) -> Table:
    """Return a table of rows `(what, its dtypes)`."""
    table = Table("dtypes", "")
    for what, found in rows:
        table.add_row(what, found)
    return table


def memory_table(rows: Sequence[tuple[str, int, int]]) -> Table:
    """Return a table of rows `(what, bytes of one copy, bytes on each device)`."""
    table = Table("memory")
    table.add_column("one copy", justify="right")
    table.add_column("on each device", justify="right")
    for what, total, per_device in rows:
        table.add_row(what, format_bytes(total), format_bytes(per_device))
    return table


def step_memory_table(rows: Sequence[tuple[str, int, str]]) -> Table:
    """Return a table of a compiled step's memory, from rows `(what, bytes on each device, its meaning)`."""
    table = Table("memory of a step")
    table.add_column("on each device", justify="right")
    table.add_column("")
    for what, size, meaning in rows:
        table.add_row(what, format_bytes(size), meaning)
    return table


def activation_table(title: str, rows: Sequence[tuple[str, float, float, float, float]]) -> Table:
    """Return a table of rows `(layer, mean, standard deviation, fraction saturated, fraction dead)`."""
    table = Table(title=title, title_justify="left")
    table.add_column("layer", overflow="fold")
    for name in ("mean", "std", "saturated", "dead"):
        table.add_column(name, justify="right")
    for layer, mean, std, saturated, dead in rows:
        table.add_row(layer, f"{mean:.4f}", f"{std:.4f}", f"{100 * saturated:.1f} %", f"{100 * dead:.1f} %")
    return table


def difference_table(rows: Sequence[tuple[str, Any, Any]], a: str, b: str, what: str) -> Table:
    """Return a table of rows `(name, value in a, value in b)`; `what` is the heading of the names."""
    table = Table(what, a, b)
    for name, left, right in rows:
        table.add_row(name, *(v if isinstance(v, str) else json.dumps(v) for v in (left, right)))
    return table


def diff_results(a: Path, b: Path) -> list[tuple[str, Any, Any]]:
    """Return rows `(path, value in a, value in b)` for the leaves in which two `result.json` files differ."""
    left, right = (_leaves(json.loads(p.read_text(encoding="utf-8")), "") for p in (a, b))
    names = [*left, *(n for n in right if n not in left)]
    return [(n, left.get(n, ""), right.get(n, "")) for n in names if left.get(n) != right.get(n)]


def _leaves(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {path: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= _leaves(inner, f"{path}.{key}" if path else key)
    return found


def format_bytes(number: float) -> str:
    """Return a number of bytes as text, such as `1.2 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
