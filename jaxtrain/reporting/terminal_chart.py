"""Line charts for a terminal, drawn with Braille characters of 2 x 4 dots each."""

import shutil
from collections.abc import Sequence

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bit of each dot of a Braille character, by row and column."""


def chart(
    x: Sequence[float], y: Sequence[float], *, x_label: str = "", width: int | None = None, height: int = 12
) -> str:
    """Return a line chart as text, with the least and greatest values at the axes.

    Args:
      x: ascending x values.
      y: finite y values, one for each x.
      x_label: unit of x, written after the last value of the x axis.
      width: width in characters, including the y axis; the width of the terminal, at most 100, for None.
      height: height in lines, without the x axis and its labels.
    """
    width = width or min(shutil.get_terminal_size().columns, 100)
    low, high = min(y), max(y)
    labels = [f"{high:.3g}", f"{low:.3g}"]
    margin = max(map(len, labels))
    columns, rows = 2 * max(width - margin - 2, 8), 4 * height
    cells = [[0] * (columns // 2) for _ in range(height)]
    span = (high - low) or 1.0
    levels = [round((high - v) / span * (rows - 1)) for v in _resample(x, y, columns)]
    for column, level in enumerate(levels):
        previous = levels[column - 1] if column else level
        for row in range(min(level, previous + 1), max(level, previous - 1) + 1):  # a jump is a line, not two points
            cells[row // 4][column // 2] |= _DOTS[row % 4][column % 2]
    lines = []
    for i, row_cells in enumerate(cells):
        label = labels[0] if i == 0 else labels[1] if i == height - 1 else ""
        lines.append(f"{label:>{margin}} ┤" + "".join(chr(0x2800 + bits) for bits in row_cells))
    first, last = f"{x[0]:g}", f"{x[-1]:g} {x_label}".rstrip()
    lines.append(" " * (margin + 1) + "└" + "─" * (columns // 2))
    lines.append(" " * (margin + 2) + first + last.rjust(columns // 2 - len(first)))
    return "\n".join(lines)


def _resample(x: Sequence[float], y: Sequence[float], count: int) -> list[float]:
    """Return y at `count` equally spaced positions, with linear interpolation between the points."""
    values, i = [], 0
    for k in range(count):
        position = x[0] + (x[-1] - x[0]) * k / (count - 1)
        while i + 2 < len(x) and x[i + 1] < position:
            i += 1
        if len(x) == 1 or x[i + 1] == x[i]:
            values.append(y[i])
            continue
        fraction = min(max((position - x[i]) / (x[i + 1] - x[i]), 0.0), 1.0)
        values.append(y[i] + fraction * (y[i + 1] - y[i]))
    return values
