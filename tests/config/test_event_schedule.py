"""The event schedule against counting: an event is due at the first step at or after each multiple of its interval."""

import math
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from jaxtrain.config.duration import Events, EventSchedule, Every

intervals = st.fractions(min_value=Fraction(1, 3), max_value=25, max_denominator=7)
totals = st.integers(1, 60)


def due_steps(interval: Fraction, total: int) -> set[int]:
    multiples = (math.ceil(k * interval) for k in range(1, 3 * total + 1))
    return {step for step in multiples if step <= total}


def make_schedule(log: Fraction, evaluate: Fraction, save: Fraction, total: int) -> EventSchedule:
    return EventSchedule(log=Every(log), evaluate=Every(evaluate), save=Every(save), total=total)


@given(intervals, intervals, intervals, totals)
def test_the_event_schedule_gives_the_events_of_each_step(
    log: Fraction, evaluate: Fraction, save: Fraction, total: int
):
    cal = make_schedule(log, evaluate, save, total)
    evaluations, saves = due_steps(evaluate, total) | {total}, due_steps(save, total) | {total}
    logs = due_steps(log, total) | evaluations | saves
    for step in range(1, total + 1):
        assert cal.at(step) == Events(log=step in logs, evaluate=step in evaluations, save=step in saves)


@given(intervals, intervals, intervals, totals)
def test_the_next_event_after_any_step_is_the_next_due_step(
    log: Fraction, evaluate: Fraction, save: Fraction, total: int
):
    """A run resumed at any step therefore has the same events as an uninterrupted one."""
    cal = make_schedule(log, evaluate, save, total)
    events = sorted(due_steps(log, total) | due_steps(evaluate, total) | due_steps(save, total) | {total})
    for step in range(total):
        assert cal.after(step) == next(e for e in events if e > step)


def test_epochs_with_a_fractional_number_of_steps_do_not_drift():
    """100 examples in batches of 64 are 25/16 steps: 16 epochs end at step 25, not at 16 times 2."""
    cal = make_schedule(Fraction(1000), Fraction(100, 64), Fraction(1000), 25)
    assert [step for step in range(1, 26) if cal.at(step).evaluate] == [
        2,
        4,
        5,
        7,
        8,
        10,
        11,
        13,
        15,
        16,
        18,
        19,
        21,
        22,
        24,
        25,
    ]


def test_metrics_are_logged_before_an_evaluation_and_a_save():
    cal = make_schedule(Fraction(10), Fraction(3), Fraction(4), 12)
    assert [step for step in range(1, 13) if cal.at(step).log] == [3, 4, 6, 8, 9, 10, 12]
    assert cal.at(12) == Events(log=True, evaluate=True, save=True)
    assert cal.at(5) == Events(log=False, evaluate=False, save=False)
