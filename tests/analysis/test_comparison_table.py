"""Times in the table of models."""

import pytest

from jaxtrain.analysis.comparison_table import format_milliseconds


@pytest.mark.parametrize(
    ("value", "told"), [(0.0123, "0.012"), (0.4, "0.4"), (1.26, "1.3"), (1234.56, "1,234.6"), (0.99, "0.99")]
)
def test_format_milliseconds_never_rounds_to_zero(value: float, told: str) -> None:
    assert format_milliseconds(value) == told
