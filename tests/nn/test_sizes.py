"""Sizes and receptive fields against counting."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtrain.analysis.receptive_field_stack import Window, receptive_field
from jaxtrain.nn.pooling import full_size, output_size


@given(
    size=st.integers(1, 20),
    window=st.integers(1, 7),
    stride=st.integers(1, 4),
    before=st.integers(0, 3),
    after=st.integers(0, 3),
)
def test_places_are_those_that_can_be_counted(size: int, window: int, stride: int, before: int, after: int) -> None:
    starts = [s for s in range(-before, size + after, stride) if s + window <= size + after]
    if not starts:
        with pytest.raises(ValueError, match=f"must be at least {window - before - after}"):
            output_size(size, window, stride=stride, padding=(before, after))
        return
    assert output_size(size, window, stride=stride, padding=(before, after)) == len(starts)


@given(size=st.integers(1, 20), window=st.integers(1, 7), stride=st.integers(1, 4), data=st.data())
def test_with_ceil_a_last_window_hangs_over_the_end(size: int, window: int, stride: int, data: st.DataObject) -> None:
    """As torch has it: with the same padding on both sides, half of the window at the most."""
    padding = data.draw(st.integers(0, window // 2))
    end = size + padding
    if window > end + padding:
        return
    starts = [s for s in range(-padding, size, stride) if s + window <= end or s - stride + window < end]
    assert output_size(size, window, stride=stride, padding=(padding, padding), ceil=True) == len(starts)


def test_a_stride_that_does_not_fit_is_refused() -> None:
    """The exercise of a 3x3 window on 7x7: strides of 1, 2 and 3."""
    assert [output_size(7, 3, stride=s, exact=True) for s in (1, 2)] == [5, 3]
    with pytest.raises(ValueError, match=r"stride 3 .* on a side of 7 fits 2\.33333 times"):
        output_size(7, 3, stride=3, exact=True)
    assert full_size(32, 4) == 35
    assert output_size(32, 4) == 29


@given(st.lists(st.builds(Window, st.integers(1, 5), st.integers(1, 3), st.integers(0, 2)), max_size=5))
def test_the_receptive_field_is_what_reaches_an_output(windows: list[Window]) -> None:
    """Followed back from two neighboring outputs, pixel by pixel."""

    def seen(output: int) -> set[int]:
        places = {output}
        for w in reversed(windows):
            places = {p * w.stride - w.padding + i for p in places for i in range(w.size)}
        return places

    field = receptive_field(windows)
    first, second = seen(0), seen(1)
    assert (min(first), max(first)) == (field.start, field.start + field.size - 1)
    assert min(second) - min(first) == field.stride


def test_stacks_of_3x3_see_what_one_large_window_does() -> None:
    assert [receptive_field([Window(3)] * n).size for n in (1, 2, 3)] == [3, 5, 7]
