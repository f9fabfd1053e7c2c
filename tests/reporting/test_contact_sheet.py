"""Contact sheets and class charts: all images appear completely and in order, and texts fit."""

import numpy as np
import pytest
from PIL import ImageFont
from PIL._util import DeferredError

from jaxtrain.reporting.class_chart import class_chart, class_table
from jaxtrain.reporting.contact_sheet import channels_note, contact_sheet, stack_vertically, to_viewable_rgb
from jaxtrain.reporting.pillow_text import load_font, to_ascii, truncate, wrap_parts
from tests.reporting.pictures import places

NOISE = np.random.default_rng(0)


def noise(*shape: int) -> np.ndarray:
    return NOISE.integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    ("side", "factor"), [(1, 96), (8, 12), (28, 3), (32, 3), (48, 2), (49, 1), (96, 1), (128, 1), (160, 1)]
)
def test_a_contact_sheet_enlarges_small_images_by_an_integer_factor(side: int, factor: int) -> None:
    images = noise(2, side, max(side // 2, 1), 3)
    np.testing.assert_array_equal(to_viewable_rgb(images), np.kron(images, np.ones((1, factor, factor, 1), np.uint8)))


def test_a_contact_sheet_reduces_large_images_and_keeps_their_aspect_ratio() -> None:
    images = np.full((1, 480, 320, 3), 7, np.uint8)
    images[:, :240] = 200
    shown = to_viewable_rgb(images)
    assert shown.shape == (1, 160, 107, 3)
    assert (shown[:, :70] == 200).all()
    assert (shown[:, 90:] == 7).all()
    assert to_viewable_rgb(np.zeros((1, 1000, 2, 1), np.uint8)).shape == (1, 160, 1, 3)


@pytest.mark.parametrize(
    ("channels", "shown", "says"),
    [(1, [0, 0, 0], ""), (2, [0, 0, 0], "1 of 2"), (3, [0, 1, 2], ""), (5, [0, 1, 2], "of 5")],
)
def test_a_contact_sheet_shows_channels_as_colors(channels: int, shown: list[int], says: str) -> None:
    images = noise(2, 96, 96, channels)
    np.testing.assert_array_equal(to_viewable_rgb(images), images[..., shown])
    assert says in channels_note(channels)
    assert bool(says) == bool(channels_note(channels))


@pytest.mark.parametrize(("number", "columns"), [(5, 2), (3, None), (2, 7), (1, 1)])
def test_a_contact_sheet_shows_pairs_in_reading_order(number: int, columns: int | None) -> None:
    before, after = noise(number, 8, 6, 1), noise(number, 8, 6, 1)
    sheet = np.asarray(contact_sheet(before, after, [("a", "b")] * number, ["title"], columns))
    left, right = ([places(sheet, image) for image in to_viewable_rgb(images)] for images in (before, after))
    assert all(len(found) == 1 for found in (*left, *right))
    corners = [found[0] for found in left]
    assert corners == sorted(corners)
    assert len({x for _, x in corners}) == min(columns or number, number)
    for ((y, x),), ((other_y, other_x),) in zip(left, right, strict=True):
        assert other_y == y
        assert other_x > x + 72 - 1


def test_a_contact_sheet_puts_captions_below_their_images() -> None:
    images = noise(2, 8, 8, 1)
    bare, written = (np.asarray(contact_sheet(images, images, [(t,), ("b",)])) for t in ("", "word"))
    rows, columns = np.nonzero((bare != written).any(axis=2))
    (y, x), *_ = places(bare, to_viewable_rgb(images)[0])
    assert rows.min() >= y + 96
    assert x <= columns.min() < columns.max() < x + 196


def test_a_contact_sheet_that_is_too_large_is_refused() -> None:
    images = np.zeros((1000, 96, 96, 1), np.uint8)
    with pytest.raises(ValueError, match="at most 50,000,000"):
        contact_sheet(images, images, [("a",)] * 1000, columns=1)


def test_texts_are_truncated_and_wrapped_to_the_given_width() -> None:
    letters = load_font(13)
    long = "a class with a name as long as this 0.70"
    assert letters.getlength(truncate(long, letters, 120)) <= 120
    assert truncate(long, letters, 120).startswith("a class")
    assert truncate(long, letters, 120).endswith("... 0.70")
    assert truncate("short", letters, 120) == "short"
    lines = wrap_parts(["cat 0.40", "dog 0.35", "bird 0.25"], letters, 130, ", ")
    assert lines == ["cat 0.40, dog 0.35,", "bird 0.25"]
    assert wrap_parts([], letters, 10) == []
    assert to_ascii("Löwenzahn\n雛菊") == "Lowenzahn ??"


def test_contact_sheets_use_a_bitmap_font_without_freetype(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFont, "core", DeferredError(ImportError("no FreeType")))
    assert isinstance(load_font(13), ImageFont.ImageFont)
    images = noise(1, 8, 8, 1)
    sheet = np.asarray(contact_sheet(images, images, [("Löwenzahn 雛菊",)], ["title"]))
    assert len(places(sheet, to_viewable_rgb(images)[0])) == 2


def test_class_chart_bars_are_proportional_to_the_counts() -> None:
    counts = {"train": (40, 0, 20), "test": (1, 3, 3)}
    chart = np.asarray(class_chart(("a", "b", "c"), counts, {"train": 60, "test": 7}, "examples"))
    blue = (chart == (70, 110, 170)).all(axis=2)
    lengths = sorted({int(n) for n in blue[:, : chart.shape[1] // 2].sum(axis=1)})
    assert lengths == [0, 75, 150]
    assert sorted({int(n) for n in blue[:, chart.shape[1] // 2 :].sum(axis=1)}) == [0, 50, 150]


def test_stack_vertically_joins_contact_sheet_and_class_chart() -> None:
    images = noise(1, 8, 8, 3)
    sheet = contact_sheet(images, images, [("a",)])
    chart = class_chart(("a",), {"train": (1,)}, {"train": 1}, "t")
    whole = np.asarray(stack_vertically(sheet, chart))
    assert whole.shape == (sheet.height + chart.height, max(sheet.width, chart.width), 3)
    np.testing.assert_array_equal(whole[sheet.height :, : chart.width], np.asarray(chart))


def test_the_class_table_has_counts_shares_and_totals() -> None:
    table = class_table(("a", "b"), {"train": (3, 1), "test": (0, 2)}, {"train": 4, "test": 2}, "t")
    cells = [list(column.cells) for column in table.columns]
    assert cells == [["a", "b"], ["3", "1"], ["75.0 %", "25.0 %"], ["0", "2"], ["0.0 %", "100.0 %"]]
    assert [column.footer for column in table.columns] == ["total", "4", "", "2", ""]
