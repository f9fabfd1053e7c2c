"""A contact sheet: one image of many image pairs, before and after, with a caption below each pair."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxtrain.reporting.pillow_text import line_height, load_font, wrap_parts

if TYPE_CHECKING:
    from PIL.Image import Image

BACKGROUND, INK = (240, 240, 240), (20, 20, 20)
ENLARGED, REDUCED = 96, 160
"""Pixels of the longer side: smaller images are enlarged to at most `ENLARGED`, larger ones reduced to `REDUCED`."""
MARGIN = 14
MAX_PIXELS = 50_000_000
"""The largest number of pixels that an image may have."""
_GAP, _MIN_PAIR_WIDTH, _MIN_SHEET_WIDTH, _SHEET_WIDTH = 4, 120, 480, 1000


def contact_sheet(
    before: np.ndarray,
    after: np.ndarray,
    captions: Sequence[Sequence[str]],
    title: Sequence[str] = (),
    columns: int | None = None,
) -> "Image":
    """Draw pairs of images in reading order: left to right, then top to bottom.

    Args:
      before: uint8[N, H, W, C], the left image of each pair.
      after: uint8[N, H, W, C], the right image of each pair.
      captions: N captions; each is a list of parts, which are joined by commas and are not broken across lines.
      title: lines above the pairs.
      columns: number of pairs side by side; None chooses it for a width of about 1,000 pixels.

    Returns:
      The sheet, RGB. Small images are enlarged by an integer factor without interpolation.

    Raises:
      ValueError: the sheet would have more than `MAX_PIXELS`.
    """
    from PIL import ImageDraw

    left, right = to_viewable_rgb(before), to_viewable_rgb(after)
    number, height, width = left.shape[:3]
    text_font = load_font(13)
    line = line_height(text_font)
    cell = max(2 * width + _GAP, _MIN_PAIR_WIDTH)
    columns = min(columns or max((_SHEET_WIDTH - MARGIN) // (cell + MARGIN), 1), number)
    texts = [wrap_parts(parts, text_font, cell, ", ") for parts in captions]
    below = line * max(map(len, texts)) + 2
    full = max(columns * (cell + MARGIN) + MARGIN, _MIN_SHEET_WIDTH)
    heads = [row for text in title for row in wrap_parts(text.split(), text_font, full - 2 * MARGIN)]
    top = MARGIN + line * len(heads) + (MARGIN if heads else 0)
    rows = -(-number // columns)
    sheet = canvas(full, top + rows * (height + below + MARGIN))
    write = functools.partial(ImageDraw.Draw(sheet).text, font=text_font, fill=INK)
    for i, text in enumerate(heads):
        write((MARGIN, MARGIN + i * line), text)
    for i in range(number):
        row, column = divmod(i, columns)
        x, y = MARGIN + column * (cell + MARGIN), top + row * (height + below + MARGIN)
        _paste(sheet, left[i], x, y)
        _paste(sheet, right[i], x + width + _GAP, y)
        for k, text in enumerate(texts[i]):
            write((x, y + height + 2 + k * line), text)
    return sheet


def canvas(width: int, height: int) -> "Image":
    """Return an empty RGB image; raise `ValueError` where it would have more than `MAX_PIXELS`."""
    from PIL import Image

    if width * height > MAX_PIXELS:
        raise ValueError(f"the image would have {width:,} x {height:,} pixels; at most {MAX_PIXELS:,} are drawn")
    return Image.new("RGB", (width, height), BACKGROUND)


def stack_vertically(upper: "Image", lower: "Image") -> "Image":
    """Return one image of `upper` above `lower`, both at the left edge."""
    whole = canvas(max(upper.width, lower.width), upper.height + lower.height)
    whole.paste(upper, (0, 0))
    whole.paste(lower, (0, upper.height))
    return whole


def to_viewable_rgb(images: np.ndarray) -> np.ndarray:
    """Convert images uint8[N, H, W, C] to RGB in a size fit for viewing: uint8[N, h, w, 3].

    The first three channels become red, green and blue; with one or two channels, the first becomes gray.
    """
    channels = images.shape[3]
    rgb = images[..., :3] if channels >= 3 else images[..., :1].repeat(3, axis=3)
    largest = max(images.shape[1:3])
    if largest <= ENLARGED:
        factor = ENLARGED // largest
        return rgb.repeat(factor, axis=1).repeat(factor, axis=2)
    return rgb if largest <= REDUCED else _downscale(rgb, REDUCED / largest)


def channels_note(channels: int) -> str:
    """Return a note on the channels that `visible` shows, or "" where it shows all of them."""
    if channels == 2:
        return "channel 1 of 2 is shown"
    return f"channels 1, 2, 3 of {channels} are shown as red, green, blue" if channels > 3 else ""


def _downscale(images: np.ndarray, factor: float) -> np.ndarray:
    from PIL import Image

    height, width = (max(round(side * factor), 1) for side in images.shape[1:3])
    result = np.empty((len(images), height, width, 3), np.uint8)
    for image, out in zip(images, result, strict=True):
        out[:] = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
    return result


def _paste(sheet: "Image", image: np.ndarray, x: int, y: int) -> None:
    from PIL import Image

    sheet.paste(Image.fromarray(np.ascontiguousarray(image)), (x, y))
