"""A terminal table of a model's layers."""

from collections.abc import Sequence

from rich import box
from rich.table import Table

from jaxtrain.analysis.layer_rows import LayerRow, ReceptiveField
from jaxtrain.analysis.summary import Summary
from jaxtrain.reporting.tables import format_bytes


def layer_table(layers: Sequence[LayerRow], title: str) -> Table:
    """Return a table of the layers with output, parameters, multiply-adds, memory, receptive field, and totals."""
    table = Table(title=title, title_justify="left", show_footer=True, box=box.SIMPLE_HEAD, padding=0)
    weights, biases = sum(x.weights for x in layers), sum(x.biases for x in layers)
    table.add_column("layer", footer="total", overflow="fold")
    table.add_column("kind", overflow="fold")
    table.add_column("output", no_wrap=True)
    for name, footer in (
        ("weights", f"{weights:,}"),
        ("biases", f"{biases:,}"),
        ("MACs", format_count(sum(x.multiply_adds for x in layers))),
        ("elements", f"{sum(x.activations for x in layers):,}"),
        ("memory", format_bytes(sum(x.activation_bytes for x in layers))),
        ("field", ""),
    ):
        table.add_column(name, footer=footer, justify="right", no_wrap=True)
    for x in layers:
        table.add_row(
            x.name,
            x.kind if x.kind != x.name else "",
            format_shape(x.shape),
            f"{x.weights:,}" if x.weights else "",
            f"{x.biases:,}" if x.biases else "",
            format_count(x.multiply_adds) if x.multiply_adds else "",
            f"{x.activations:,}",
            format_bytes(x.activation_bytes),
            _format_field(x.field),
        )
    return table


def summary_lines(summary: Summary) -> list[str]:
    """Return the lines below the table."""
    lines = [
        f"parameters: {summary.parameters:,} trained ({format_bytes(summary.parameter_bytes)}); {summary.statistics:,} "
        "values of statistics",
        f"multiply-adds: {summary.multiply_adds:,} for one image",
        f"activations: {summary.activations:,} elements, {sum(x.activations for x in summary.layers):,} with the "
        "outputs of activation functions and normalizations",
    ]
    if summary.unused:
        names = ", ".join(f"{name} ({count:,})" for name, count in summary.unused.items())
        lines.append(f"not in the table, because only training uses them: {names}; --train shows them")
    return lines


def format_shape(shape: Sequence[int]) -> str:
    """Return a shape as text, such as `224x224x3`."""
    return "x".join(map(str, shape)) or "scalar"


def format_count(count: int) -> str:
    """Return a count as text, such as `118.0M`."""
    number = float(count)
    for unit in ("", "K", "M", "G"):
        if number < 1000:
            return f"{number:.1f}{unit}" if unit else f"{count}"
        number /= 1000
    return f"{number:.1f}T"


def _format_field(field: ReceptiveField) -> str:
    """Return size and stride of a receptive field as text, such as `11/4`, or "all" for the whole image."""
    if field.whole:
        return "all"
    size, stride = (format_shape(x[:1] if len(set(x)) == 1 else x) for x in (field.size, field.stride))
    return f"{size}/{stride}" if any(field.stride) else size
