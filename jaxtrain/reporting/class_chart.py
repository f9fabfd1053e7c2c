"""How many examples of each class the splits hold, as bars drawn with Pillow and as a table for the terminal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from jaxtrain.reporting.contact_sheet import INK, MARGIN, canvas
from jaxtrain.reporting.lettering import cut, font, line_height

if TYPE_CHECKING:
    from PIL.Image import Image
    from rich.table import Table

_BAR, _TRACK = (70, 110, 170), (222, 222, 222)
_NAME, _LENGTH, _NUMBER = 150, 150, 70
"""Pixels for the name of a class at the most, for a bar and for the number behind it."""


def class_chart(
    names: Sequence[str], counts: Mapping[str, Sequence[int]], totals: Mapping[str, int], title: str
) -> "Image":
    """Draws a row a class and a column a split; the longest bar of each column is its most frequent class.

    Args:
      names: of the classes that are drawn.
      counts: their examples, by split.
      totals: examples of each split, those of classes that are not drawn included.
      title: above all.
    """
    from PIL import ImageDraw

    letters = font(13)
    line = line_height(letters)
    shown = [cut(name, letters, _NAME) for name in names]
    first = 2 * MARGIN + round(max(map(letters.getlength, shown)))
    column = _LENGTH + _NUMBER + MARGIN
    top = MARGIN + 2 * line
    picture = canvas(first + len(counts) * column, top + len(names) * line + MARGIN)
    draw = ImageDraw.Draw(picture)
    draw.text((MARGIN, MARGIN), cut(title, letters, picture.width - 2 * MARGIN), INK, letters)
    for row, name in enumerate(shown):
        draw.text((MARGIN, top + row * line), name, INK, letters)
    for place, (split, numbers) in enumerate(counts.items()):
        x = first + place * column
        draw.text((x, MARGIN + line), cut(f"{split} ({totals[split]:,})", letters, column - MARGIN), INK, letters)
        for row, number in enumerate(numbers):
            y = top + row * line
            draw.rectangle((x, y + 3, x + _LENGTH - 1, y + line - 3), _TRACK)
            if number:
                length = max(round(_LENGTH * number / max(numbers)), 1)
                draw.rectangle((x, y + 3, x + length - 1, y + line - 3), _BAR)
            draw.text((x + _LENGTH + 5, y), f"{number:,}", INK, letters)
    return picture


def class_table(
    names: Sequence[str], counts: Mapping[str, Sequence[int]], totals: Mapping[str, int], title: str
) -> "Table":
    """The same as a table, with the share of each split that a class has."""
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
