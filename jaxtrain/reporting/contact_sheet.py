"""A contact sheet: pairs of images, before and after, with a caption below each. Arrays and texts in, a picture out."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxtrain.reporting.lettering import font, line_height, wrapped

if TYPE_CHECKING:
    from PIL.Image import Image

BACKGROUND, INK = (240, 240, 240), (20, 20, 20)
ENLARGED, REDUCED = 96, 160
"""Smaller images are enlarged to at most so many pixels a side, larger ones reduced to so many."""
MARGIN = 14
MOST_PIXELS = 50_000_000
_BETWEEN, _NARROWEST, _TITLED, _WIDTH = 4, 120, 480, 1000


def contact_sheet(
    before: np.ndarray,
    after: np.ndarray,
    captions: Sequence[Sequence[str]],
    title: Sequence[str] = (),
    columns: int | None = None,
) -> "Image":
    """Draws pairs of images in reading order.

    Args:
      before: uint8[N, H, W, C]; the left one of each pair.
      after: uint8[N, H, W, C]; the right one.
      captions: N times what is written below: parts that stay together, with commas between them.
      title: lines above all.
      columns: pairs side by side; as many as make a picture of about 1,000 pixels for None.

    Returns:
      The picture, RGB. Small images are enlarged by a whole factor without interpolation.

    Raises:
      ValueError: it would have more than `MOST_PIXELS`.
    """
    from PIL import ImageDraw

    left, right = visible(before), visible(after)
    number, height, width = left.shape[:3]
    letters = font(13)
    line = line_height(letters)
    cell = max(2 * width + _BETWEEN, _NARROWEST)
    columns = min(columns or max((_WIDTH - MARGIN) // (cell + MARGIN), 1), number)
    texts = [wrapped(parts, letters, cell, ", ") for parts in captions]
    below = line * max(map(len, texts)) + 2
    full = max(columns * (cell + MARGIN) + MARGIN, _TITLED)
    heads = [row for text in title for row in wrapped(text.split(), letters, full - 2 * MARGIN)]
    top = MARGIN + line * len(heads) + (MARGIN if heads else 0)
    rows = -(-number // columns)
    sheet = canvas(full, top + rows * (height + below + MARGIN))
    write = functools.partial(ImageDraw.Draw(sheet).text, font=letters, fill=INK)
    for i, text in enumerate(heads):
        write((MARGIN, MARGIN + i * line), text)
    for i in range(number):
        row, column = divmod(i, columns)
        x, y = MARGIN + column * (cell + MARGIN), top + row * (height + below + MARGIN)
        _paste(sheet, left[i], x, y)
        _paste(sheet, right[i], x + width + _BETWEEN, y)
        for k, text in enumerate(texts[i]):
            write((x, y + height + 2 + k * line), text)
    return sheet


def canvas(width: int, height: int) -> "Image":
    """An empty picture; `ValueError` where it is too large."""
    from PIL import Image

    if width * height > MOST_PIXELS:
        raise ValueError(f"the picture would have {width:,} x {height:,} pixels; at most {MOST_PIXELS:,} are drawn")
    return Image.new("RGB", (width, height), BACKGROUND)


def stacked(upper: "Image", lower: "Image") -> "Image":
    """One picture above another."""
    whole = canvas(max(upper.width, lower.width), upper.height + lower.height)
    whole.paste(upper, (0, 0))
    whole.paste(lower, (0, upper.height))
    return whole


def visible(images: np.ndarray) -> np.ndarray:
    """`images` uint8[N, H, W, C] in colors and in a size to look at: uint8[N, h, w, 3]."""
    channels = images.shape[3]
    colored = images[..., :3] if channels >= 3 else images[..., :1].repeat(3, axis=3)
    largest = max(images.shape[1:3])
    if largest <= ENLARGED:
        factor = ENLARGED // largest
        return colored.repeat(factor, axis=1).repeat(factor, axis=2)
    return colored if largest <= REDUCED else _reduced(colored, REDUCED / largest)


def channels_note(channels: int) -> str:
    """Says which channels `visible` shows where that is not plain, else nothing."""
    if channels == 2:
        return "channel 1 of 2 is shown"
    return f"channels 1, 2, 3 of {channels} are shown as red, green, blue" if channels > 3 else ""


def _reduced(images: np.ndarray, factor: float) -> np.ndarray:
    from PIL import Image

    height, width = (max(round(side * factor), 1) for side in images.shape[1:3])
    result = np.empty((len(images), height, width, 3), np.uint8)
    for image, out in zip(images, result, strict=True):
        out[:] = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
    return result


def _paste(sheet: "Image", image: np.ndarray, x: int, y: int) -> None:
    from PIL import Image

    sheet.paste(Image.fromarray(np.ascontiguousarray(image)), (x, y))
