"""Text in pictures drawn with Pillow: its own font, lines that fit a width, and letters that the font has."""

import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

    Font = FreeTypeFont | ImageFont

_CUT, _TAIL = "...", 5


def font(size: int) -> "Font":
    """Pillow's own font, `size` pixels high; a bitmap of one size where Pillow was built without FreeType."""
    from PIL import ImageFont

    try:
        return ImageFont.load_default(size=size)
    except ImportError:
        return ImageFont.load_default()


def line_height(letters: "Font") -> int:
    """From one line to the next, in pixels."""
    return round(letters.getbbox("Agjy|")[3]) + 3


def plain(text: str) -> str:
    """`text` in ASCII, which is what the font has: accents are dropped, and what else there is becomes "?"."""
    decomposed = unicodedata.normalize("NFKD", text)
    kept = "".join(c for c in decomposed if not unicodedata.combining(c))
    return "".join(c if c.isprintable() else " " for c in kept).encode("ascii", "replace").decode("ascii")


def cut(text: str, letters: "Font", width: float) -> str:
    """`text`, or its beginning and its end, where a weight may stand, with dots between them, in `width` pixels."""
    text = plain(text)
    if letters.getlength(text) <= width:
        return text
    head, tail = text[:-_TAIL], text[-_TAIL:]
    while head and letters.getlength(head + _CUT + tail) > width:
        head = head[:-1]
    return head + _CUT + tail


def wrapped(parts: Iterable[str], letters: "Font", width: float, between: str = " ") -> list[str]:
    """`parts` one after the other in lines of at most `width` pixels; a part that is wider alone is cut."""
    lines: list[str] = []
    for part in map(plain, parts):
        longer = f"{lines[-1]}{between}{part}" if lines else ""
        if longer and letters.getlength(longer) <= width:
            lines[-1] = longer
            continue
        if lines:
            lines[-1] += between.rstrip()
        lines.append(cut(part, letters, width))
    return lines
