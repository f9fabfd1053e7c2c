"""Output sizes of windows, against counting."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtrain.nn.pooling import full_correlation_size, output_size


@given(
    size=st.integers(1, 20),
    window=st.integers(1, 7),
    stride=st.integers(1, 4),
    before=st.integers(0, 3),
    after=st.integers(0, 3),
)
def test_output_size_equals_the_number_of_windows(size: int, window: int, stride: int, before: int, after: int) -> None:
    starts = [s for s in range(-before, size + after, stride) if s + window <= size + after]
    if not starts:
        with pytest.raises(ValueError, match=f"must be at least {window - before - after}"):
            output_size(size, window, stride=stride, padding=(before, after))
        return
    assert output_size(size, window, stride=stride, padding=(before, after)) == len(starts)


@given(size=st.integers(1, 20), window=st.integers(1, 7), stride=st.integers(1, 4), data=st.data())
def test_output_size_with_ceil_counts_a_last_partial_window(
    size: int, window: int, stride: int, data: st.DataObject
) -> None:
    """As torch has it: with the same padding on both sides, half of the window at the most."""
    padding = data.draw(st.integers(0, window // 2))
    end = size + padding
    if window > end + padding:
        return
    starts = [s for s in range(-padding, size, stride) if s + window <= end or s - stride + window < end]
    assert output_size(size, window, stride=stride, padding=(padding, padding), ceil=True) == len(starts)


def test_output_size_refuses_a_stride_that_does_not_fit_exactly() -> None:
    """The exercise of a 3x3 window on 7x7: strides of 1, 2 and 3."""
    assert [output_size(7, 3, stride=s, exact=True) for s in (1, 2)] == [5, 3]
    with pytest.raises(ValueError, match=r"stride 3 .* on a side of 7 fits 2\.33333 times"):
        output_size(7, 3, stride=3, exact=True)
    assert full_correlation_size(32, 4) == 35
    assert output_size(32, 4) == 29
