"""A terminal table of compared models."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from jaxtrain.analysis.compare import Comparison
from jaxtrain.analysis.layer_table import format_count, format_shape
from jaxtrain.reporting.tables import format_bytes


def comparison_table(rows: Sequence[Comparison], title: str) -> Table:
    """Return a table with one row per model; errors refer to the numbered notes of `note_lines`."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    table.add_column("model", overflow="fold")
    timed = any(r.measured for r in rows)
    measured = ("forward ms", "step ms", "step memory") if timed else ()
    for name in ("input", "parameters", "mult-adds", *measured, "error %"):
        table.add_column(name, justify="right", no_wrap=True)
    notes = _notes(rows)
    for r in rows:
        times = []
        if r.measured is not None:
            m = r.measured
            memory = "" if m.step_bytes is None else format_bytes(m.step_bytes)
            times = [format_milliseconds(m.forward_ms), format_milliseconds(m.step_ms), memory]
        shown = r.candidate.published[:1]
        error = f"{shown[0]['error']:.2f} [{notes[_note(shown[0])]}]" if shown else ""
        counts = [format_shape(r.candidate.shape), f"{r.parameters:,}", format_count(r.multiply_adds)]
        table.add_row(r.candidate.name, *counts, *times, error)
    return table


def note_lines(rows: Sequence[Comparison]) -> list[str]:
    """Return the numbered notes on the data, metric, protocol and source of the errors."""
    return [f"[{number}] {note}" for note, number in _notes(rows).items()]


def format_milliseconds(value: float) -> str:
    """Return milliseconds with one decimal; values below 1 with two significant digits."""
    return f"{value:,.1f}" if value >= 1 else f"{value:.2g}"


def _notes(rows: Sequence[Comparison]) -> dict[str, int]:
    notes = dict.fromkeys(_note(entry) for r in rows for entry in r.candidate.published[:1])
    return {note: number for number, note in enumerate(notes, 1)}


def _note(entry: Mapping[str, Any]) -> str:
    return ", ".join(str(entry[k]) for k in ("data", "metric", "protocol", "source") if entry[k])
