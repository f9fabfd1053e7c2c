"""Text in images drawn with Pillow: its default font, and text converted, truncated and wrapped to fit a width."""

import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

    Font = FreeTypeFont | ImageFont

_ELLIPSIS, _TAIL = "...", 5
"""What replaces the middle of a truncated text, and how many characters at its end are kept."""


def load_font(size: int) -> "Font":
    """Return Pillow's default font in `size` pixels; without FreeType, Pillow's bitmap font of fixed size."""
    from PIL import ImageFont

    try:
        return ImageFont.load_default(size=size)
    except ImportError:
        return ImageFont.load_default()


def line_height(text_font: "Font") -> int:
    """Return the distance from one line to the next, in pixels."""
    return round(text_font.getbbox("Agjy|")[3]) + 3


def to_ascii(text: str) -> str:
    """Convert `text` to ASCII, the characters of the font.

    Accents are dropped, unprintable characters become spaces, and other characters become "?".
    """
    decomposed = unicodedata.normalize("NFKD", text)
    base = "".join(c for c in decomposed if not unicodedata.combining(c))
    return "".join(c if c.isprintable() else " " for c in base).encode("ascii", "replace").decode("ascii")


def truncate(text: str, text_font: "Font", width: float) -> str:
    """Truncate `text` to `width` pixels: replace its middle by dots.

    The end stays, because the weight of a mixed label is written there.
    """
    text = to_ascii(text)
    if text_font.getlength(text) <= width:
        return text
    head, tail = text[:-_TAIL], text[-_TAIL:]
    while head and text_font.getlength(head + _ELLIPSIS + tail) > width:
        head = head[:-1]
    return head + _ELLIPSIS + tail


def wrap_parts(parts: Iterable[str], text_font: "Font", width: float, between: str = " ") -> list[str]:
    """Join `parts` into lines of at most `width` pixels; truncate a part that alone is wider."""
    lines: list[str] = []
    for part in map(to_ascii, parts):
        longer = f"{lines[-1]}{between}{part}" if lines else ""
        if longer and text_font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        if lines:
            lines[-1] += between.rstrip()
        lines.append(truncate(part, text_font, width))
    return lines
