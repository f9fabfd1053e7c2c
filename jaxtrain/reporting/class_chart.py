"""The number of examples of each class in each split, as a bar chart drawn with Pillow and as a terminal table."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from jaxtrain.reporting.contact_sheet import INK, MARGIN, canvas
from jaxtrain.reporting.pillow_text import line_height, load_font, truncate

if TYPE_CHECKING:
    from PIL.Image import Image
    from rich.table import Table

_BAR, _TRACK = (70, 110, 170), (222, 222, 222)
_NAME_WIDTH, _BAR_WIDTH, _COUNT_WIDTH = 150, 150, 70
"""Pixels for the name of a class (at most), for a full bar, and for the count beside it."""


def class_chart(
    names: Sequence[str], counts: Mapping[str, Sequence[int]], totals: Mapping[str, int], title: str
) -> "Image":
    """Draw a bar chart with one row per class and one column per split.

    The most frequent class of a column has a full bar; the other bars are in proportion to it.

    Args:
      names: names of the classes to draw.
      counts: number of examples of each of these classes, by split.
      totals: number of examples of each split, including the classes that are not drawn.
      title: text above the chart.
    """
    from PIL import ImageDraw

    text_font = load_font(13)
    line = line_height(text_font)
    shown = [truncate(name, text_font, _NAME_WIDTH) for name in names]
    first = 2 * MARGIN + round(max(map(text_font.getlength, shown)))
    column = _BAR_WIDTH + _COUNT_WIDTH + MARGIN
    top = MARGIN + 2 * line
    image = canvas(first + len(counts) * column, top + len(names) * line + MARGIN)
    draw = ImageDraw.Draw(image)
    draw.text((MARGIN, MARGIN), truncate(title, text_font, image.width - 2 * MARGIN), INK, text_font)
    for row, name in enumerate(shown):
        draw.text((MARGIN, top + row * line), name, INK, text_font)
    for index, (split, numbers) in enumerate(counts.items()):
        x = first + index * column
        heading = truncate(f"{split} ({totals[split]:,})", text_font, column - MARGIN)
        draw.text((x, MARGIN + line), heading, INK, text_font)
        for row, number in enumerate(numbers):
            y = top + row * line
            draw.rectangle((x, y + 3, x + _BAR_WIDTH - 1, y + line - 3), _TRACK)
            if number:
                length = max(round(_BAR_WIDTH * number / max(numbers)), 1)
                draw.rectangle((x, y + 3, x + length - 1, y + line - 3), _BAR)
            draw.text((x + _BAR_WIDTH + 5, y), f"{number:,}", INK, text_font)
    return image


def class_table(
    names: Sequence[str], counts: Mapping[str, Sequence[int]], totals: Mapping[str, int], title: str
) -> "Table":
    """Return the counts as a table, with the percentage of each split that a class makes up."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_footer=True)
    table.add_column("class", footer="total", overflow="fold")
    for split in counts:
        table.add_column(split, footer=f"{totals[split]:,}", justify="right")
        table.add_column("share", justify="right")
    for row, name in enumerate(names):
        cells = []
        for split, numbers in counts.items():
            cells += [f"{numbers[row]:,}", f"{100 * numbers[row] / totals[split]:.1f} %"]
        table.add_row(name, *cells)
    return table
