"""Durations are read as they are printed, and their steps come from exact arithmetic."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtrain.config import Duration, RunLength
from jaxtrain.config.duration import MAX_STEPS, Every
from jaxtrain.errors import ConfigError
from tests.config.strategies import durations
from tests.conftest import examples

COUNTS = st.integers(1, 10**6)


@given(durations())
def test_a_printed_duration_is_read_back_unchanged(duration: Duration) -> None:
    assert Duration.parse(str(duration)) == duration
    assert Duration.parse(duration) is duration


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("1 epoch", 1.0, "epochs"),
        ("30epochs", 30.0, "epochs"),
        (" 1e3 Steps ", 1000.0, "steps"),
        ("1 step", 1.0, "steps"),
        (".5 epochs", 0.5, "epochs"),
        ("2. epochs", 2.0, "epochs"),
        ("1 example", 1.0, "examples"),
        ("50000 EXAMPLES", 50_000.0, "examples"),
        ("2.5e-1 %", 0.25, "%"),
        ("10 percent", 10.0, "%"),
        ("0 steps", 0.0, "steps"),
    ],
)
def test_a_duration_can_be_written_in_several_ways(text: str, value: float, unit: str) -> None:
    assert Duration.parse(text) == Duration(value, unit)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "epochs",
        "-1 epochs",
        "+1 epochs",
        "1 hour",
        "1,000 steps",
        "1 000 steps",
        "1 epoch 2 steps",
        "٣ steps",
        "inf steps",
        "nan steps",
        "1e999 steps",
        "1_0 steps",
        "0x10 steps",
        "1 %%",
        5,
        5.0,
        True,
        None,
        b"1 step",
    ],
)
def test_parse_refuses_text_that_is_not_a_duration(text: object) -> None:
    with pytest.raises(ConfigError, match=r"duration|unit|finite"):
        Duration.parse(text)


@given(digits=st.integers(0, 10**8), places=st.integers(0, 4), examples=COUNTS, batch=COUNTS, total=COUNTS)
def test_steps_of_a_decimal_duration_are_exact(digits: int, places: int, examples: int, batch: int, total: int) -> None:
    """Compute the steps of the decimal `digits / 10**places` in integers: the smallest n that covers it."""
    text = f"{digits // 10**places}.{digits % 10**places:0{places}d}" if places else str(digits)
    clock = RunLength(examples, batch, total)
    scales = {"steps": (1, 1), "epochs": (examples, batch), "examples": (1, batch), "%": (total, 100)}
    for unit, (above, below) in scales.items():
        wanted = -(-digits * above // (below * 10**places))
        assert Duration.parse(f"{text} {unit}").steps(clock) == wanted


@given(durations(), COUNTS, COUNTS, COUNTS)
def test_steps_of_a_duration_are_rounded_up(duration: Duration, examples: int, batch: int, total: int) -> None:
    clock = RunLength(examples, batch, total)
    exact = duration.exact_steps(clock)
    assert 0 <= duration.steps(clock) - exact < 1


def test_steps_of_a_tenth_have_no_float_error() -> None:
    """The float 0.1 is slightly more than a tenth, so its ceiling would be one step too many."""
    assert Duration.parse("0.1 epochs").steps(RunLength(examples=1000, batch_size=10)) == 10
    assert Duration.parse("70%").steps(RunLength(1, 1, total_steps=10)) == 7


def test_a_duration_in_percent_needs_the_length_of_the_run() -> None:
    with pytest.raises(ConfigError, match="whose length is not known"):
        Duration.parse("10%").steps(RunLength(100, 10))


def test_step_counts_are_limited_by_the_step_counter() -> None:
    clock = RunLength(1, 1)
    assert Duration(float(MAX_STEPS), "steps").to_step_count(clock, "x") == MAX_STEPS
    with pytest.raises(ConfigError, match=r"^train_for: .*2,147,483,647"):
        Duration(float(MAX_STEPS + 1), "steps").to_step_count(clock, "train_for")


@given(steps=st.integers(0, 10**6), examples=COUNTS, batch=COUNTS)
def test_epochs_and_steps_are_inverse(steps: int, examples: int, batch: int) -> None:
    assert RunLength(examples, batch).epoch(steps) == pytest.approx(float(Fraction(steps * batch, examples)))


def test_a_duration_can_be_an_amount_of_data() -> None:
    assert Duration.parse("5000 examples").examples(60_000) == 5000
    assert Duration.parse("10%").examples(1437) == 144
    for text in ("1 epoch", "100 steps"):
        with pytest.raises(ConfigError, match="not an amount of data"):
            Duration.parse(text).examples(1000)


INTERVALS = st.fractions(Fraction(1, 8), 40, max_denominator=60)


@given(interval=INTERVALS, step=st.integers(0, 500))
def test_the_next_event_is_the_first_step_of_the_next_interval(interval: Fraction, step: int) -> None:
    later = step + 1
    while later // interval == step // interval:
        later += 1
    assert Every(interval).after(step) == later


@examples(50)
@given(examples=st.integers(1, 5000), batch=st.integers(1, 64), epochs=st.integers(1, 30))
def test_epoch_events_happen_once_per_epoch_without_drift(examples: int, batch: int, epochs: int) -> None:
    """The k-th event is at the first step after k epochs of examples."""
    batch = min(batch, examples)
    every = Every(Duration(1.0, "epochs").exact_steps(RunLength(examples, batch)))
    step = 0
    for k in range(1, epochs + 1):
        step = every.after(step)
        assert step == math.ceil(Fraction(k * examples, batch))
