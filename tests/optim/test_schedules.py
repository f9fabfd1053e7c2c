"""Schedules against closed forms in float64 and torch's schedulers, and properties under random options.

Inside a float32 step a schedule is exact to 1e-7 of its peak; under x64 it is held to 1e-12.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtrain.optim.schedules import (
    Schedule,
    as_schedule,
    constant,
    cosine,
    cyclic,
    exponential,
    inverse_sqrt,
    linear,
    multistep,
    one_cycle,
    per_epoch,
    polynomial,
    sgdr,
    step,
    sutskever_momentum,
    triangular,
    wsd,
)
from tests.conftest import examples

STEPS = 64
"""Number of steps evaluated: the same in every test, so that each operation is compiled once."""


def values(schedule: Schedule) -> np.ndarray:
    return np.asarray(jax.vmap(schedule)(jnp.arange(STEPS, dtype=jnp.int32)))


def exact(make: Callable[[], Schedule]) -> np.ndarray:
    with jax.enable_x64(True):
        result = values(make())
    assert result.dtype == np.float64
    return result


def cosine_form(peak: float, total: int, warmup: int, end: float) -> list[float]:
    """Loshchilov & Hutter 2017, equation 5, over the steps after the warm-up."""
    result = []
    for t in range(STEPS):
        if t < warmup:
            result.append(peak * t / warmup)
        else:
            angle = math.pi * min(t - warmup, total - warmup) / (total - warmup)
            result.append(end + (peak - end) * (1 + math.cos(angle)) / 2)
    return result


def step_form(peak: float, boundaries: tuple[int, ...], factor: float, warmup: int) -> list[float]:
    """He et al. 2016: divided at the boundaries."""
    return [
        peak * t / warmup if t < warmup else peak * factor ** len([b for b in boundaries if b <= t])
        for t in range(STEPS)
    ]


def snapshot_form(peak: float, total: int, cycles: int) -> list[float]:
    """Huang et al. 2017, equation 2, with their t = step + 1."""
    length = math.ceil(total / cycles)
    path = [peak / 2 * (math.cos(math.pi * ((t - 1) % length) / length) + 1) for t in range(1, total + 1)]
    return path + [0.0] * (STEPS - total)


def sustained_form(peak: float, total: int, warmup: int, decay: int, left: float) -> list[float]:
    """Warm-up, stable phase, linear decay to the fraction `left` of the peak."""
    path = []
    for t in range(STEPS):
        into = min(max(t - (total - decay), 0), decay) / decay
        path.append(peak * t / warmup if t < warmup else peak * (1 - into + into * left))
    return path


CASES: dict[str, tuple[Callable[[], Schedule], list[float]]] = {
    "constant": (lambda: constant(0.3), [0.3] * STEPS),
    "constant-warmup": (lambda: constant(0.3, warmup=7), [0.3 * min(t / 7, 1) for t in range(STEPS)]),
    "cosine": (lambda: cosine(0.1, total=50), cosine_form(0.1, 50, 0, 0.0)),
    "cosine-end": (lambda: cosine(0.5, total=50, end=0.02), cosine_form(0.5, 50, 0, 0.02)),
    "cosine-warmup": (lambda: cosine(0.5, total=50, warmup=11, end=0.02), cosine_form(0.5, 50, 11, 0.02)),
    "cosine-one-step": (lambda: cosine(0.5, total=12, warmup=11), cosine_form(0.5, 12, 11, 0.0)),
    "multistep": (lambda: multistep(0.1, boundaries=(20, 40)), step_form(0.1, (20, 40), 0.1, 0)),
    "multistep-warmup": (
        lambda: multistep(0.8, boundaries=(20, 21, 60), factor=0.5, warmup=6),
        step_form(0.8, (20, 21, 60), 0.5, 6),
    ),
    "multistep-none": (lambda: multistep(0.8, boundaries=()), [0.8] * STEPS),
    "step": (lambda: step(0.8, every=9, factor=0.5), [0.8 * 0.5 ** (t // 9) for t in range(STEPS)]),
    "exponential": (lambda: exponential(0.8, every=9, factor=0.5), [0.8 * 0.5 ** (t / 9) for t in range(STEPS)]),
    "googlenet": (
        lambda: exponential(0.01, every=8, factor=0.96, staircase=True),
        [0.01 * 0.96 ** (t // 8) for t in range(STEPS)],
    ),
    "exponential-end": (
        lambda: exponential(0.8, every=4, factor=0.5, end=0.1, warmup=5),
        [0.8 * t / 5 if t < 5 else max(0.8 * 0.5 ** (t / 4), 0.1) for t in range(STEPS)],
    ),
    "linear": (lambda: linear(0.8, total=40), [0.8 * max(1 - t / 40, 0) for t in range(STEPS)]),
    "polynomial": (
        lambda: polynomial(0.8, total=40, power=2.0, warmup=8, end=0.1),
        [0.8 * t / 8 if t < 8 else 0.1 + 0.7 * (1 - min(t - 8, 32) / 32) ** 2 for t in range(STEPS)],
    ),
    "inverse-sqrt": (lambda: inverse_sqrt(0.8), [0.8 / math.sqrt(max(t, 1)) for t in range(STEPS)]),
    "inverse-sqrt-warmup": (
        lambda: inverse_sqrt(0.8, warmup=10),
        [0.8 * min(t / 10, math.sqrt(10 / max(t, 1))) for t in range(STEPS)],
    ),
    "cyclic": (lambda: cyclic(0.4, total=50, cycles=3), snapshot_form(0.4, 50, 3)),
    "wsd": (lambda: wsd(0.4, total=50, warmup=8, decay=12, end=0.1), sustained_form(0.4, 50, 8, 12, 0.1)),
    "sutskever": (
        lambda: sutskever_momentum(0.9, every=10),
        [min(1 - 2 ** (-1 - math.log2(t // 10 + 1)), 0.9) for t in range(STEPS)],
    ),
    "per-epoch": (
        lambda: per_epoch(lambda t: 1.0 * jnp.asarray(t).astype(jnp.result_type(float)), examples=10, batch_size=4),
        [float(math.ceil((t * 4 // 10) * 10 / 4)) for t in range(STEPS)],
    ),
}


@pytest.mark.slow_cases("per-epoch", "sutskever")
@pytest.mark.parametrize("case", CASES)
def test_schedule_equals_its_closed_form(case: str):
    make, expected = CASES[case]
    peak = max(expected)
    np.testing.assert_allclose(exact(make), expected, rtol=1e-12, atol=1e-15)
    single = values(make())
    assert single.dtype == np.float32
    # cos and pow in float32 are good to an ulp or two of the peak, 1.2e-7 each
    np.testing.assert_allclose(single, expected, rtol=0, atol=2.5e-7 * peak)


@pytest.mark.quick_cases("cosine-warmup", "multistep", "inverse-sqrt-warmup")
@pytest.mark.parametrize("case", CASES)
def test_schedule_inside_jit_equals_its_eager_value(case: str):
    schedule = CASES[case][0]()
    jitted = jax.jit(schedule)
    for t in (0, 5, 21):
        value = jitted(jnp.int32(t))
        assert (value.shape, value.dtype) == ((), jnp.float32)
        # a fused multiply-add may differ from two operations in the last place
        np.testing.assert_allclose(value, schedule(t), rtol=3e-7)
    assert jitted._cache_size() == 1


def torch_rates(peak: float, make: Callable[[Any, Any], Any], count: int) -> list[float]:
    torch = pytest.importorskip("torch", reason="the oracle is torch.optim.lr_scheduler")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates an argument that its own SequentialLR passes on
        scheduler = make(torch.optim.lr_scheduler, optimizer)
        rates = []
        for _ in range(count):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
    return rates


def warmed(steps: int, after: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """torch's linear warm-up cannot start at 0 itself; 1e-10 of the peak is as good to 1e-7."""
    return lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, start_factor=1e-10, total_iters=steps), after(s, o)], milestones=[steps]
    )


@pytest.mark.parametrize(
    ("make", "theirs"),
    [
        (lambda: cosine(0.4, total=50), lambda s, o: s.CosineAnnealingLR(o, T_max=50)),
        (lambda: cosine(0.4, total=50, end=0.03), lambda s, o: s.CosineAnnealingLR(o, T_max=50, eta_min=0.03)),
        (lambda: multistep(0.4, boundaries=(10, 30, 45)), lambda s, o: s.MultiStepLR(o, [10, 30, 45])),
        (lambda: multistep(0.4, boundaries=(1,), factor=0.2), lambda s, o: s.MultiStepLR(o, [1], gamma=0.2)),
        (lambda: constant(0.4, warmup=12), warmed(12, lambda s, o: s.ConstantLR(o, factor=1.0))),
        (lambda: cosine(0.4, total=50, warmup=12), warmed(12, lambda s, o: s.CosineAnnealingLR(o, T_max=38))),
        # torch counts the second scheduler's milestones from where it starts, jaxtrain from the start of the run
        (lambda: multistep(0.4, boundaries=(20, 40), warmup=12), warmed(12, lambda s, o: s.MultiStepLR(o, [8, 28]))),
        (lambda: step(0.4, every=9, factor=0.3), lambda s, o: s.StepLR(o, 9, gamma=0.3)),
        (lambda: exponential(0.4, every=1, factor=0.9), lambda s, o: s.ExponentialLR(o, 0.9)),
        (lambda: linear(0.4, total=40), lambda s, o: s.PolynomialLR(o, 40, power=1.0)),
        (lambda: polynomial(0.4, total=40, power=1.7), lambda s, o: s.PolynomialLR(o, 40, power=1.7)),
        (lambda: sgdr(0.4, period=12, end=0.03), lambda s, o: s.CosineAnnealingWarmRestarts(o, 12, eta_min=0.03)),
        (lambda: sgdr(0.4, period=5, period_factor=2.0), lambda s, o: s.CosineAnnealingWarmRestarts(o, 5, T_mult=2)),
        (
            lambda: sgdr(0.4, period=5, period_factor=3.0, warmup=7),
            warmed(7, lambda s, o: s.CosineAnnealingWarmRestarts(o, 5, T_mult=3)),
        ),
        (lambda: one_cycle(0.4, total=52), lambda s, o: s.OneCycleLR(o, 0.4, total_steps=52, cycle_momentum=False)),
        (
            lambda: one_cycle(0.4, total=52, rise=0.4, initial_divisor=5.0, final_divisor=20.0, anneal="linear"),
            lambda s, o: s.OneCycleLR(
                o,
                0.4,
                total_steps=52,
                pct_start=0.4,
                div_factor=5.0,
                final_div_factor=20.0,
                anneal_strategy="linear",
                cycle_momentum=False,
            ),
        ),
        (
            lambda: triangular(0.4, low=0.1, half_period=7),
            lambda s, o: s.CyclicLR(o, 0.1, 0.4, step_size_up=7, cycle_momentum=False),
        ),
        (
            lambda: triangular(0.4, low=0.1, half_period=7, mode="triangular2"),
            lambda s, o: s.CyclicLR(o, 0.1, 0.4, step_size_up=7, mode="triangular2", cycle_momentum=False),
        ),
        (
            lambda: triangular(0.4, low=0.1, half_period=7, mode="exp_range", decay=0.97),
            lambda s, o: s.CyclicLR(o, 0.1, 0.4, step_size_up=7, mode="exp_range", gamma=0.97, cycle_momentum=False),
        ),
    ],
    ids=[
        *("cosine", "cosine-end", "multistep", "multistep-factor", "warmup", "warmup-cosine", "warmup-multistep"),
        *("step", "exponential", "linear", "polynomial", "restarts", "restarts-longer", "restarts-warmup"),
        *("one-cycle", "one-cycle-linear", "triangular", "triangular2", "exp-range"),
    ],
)
def test_schedule_equals_torch_scheduler(make: Callable[[], Schedule], theirs: Callable[[Any, Any], Any]):
    expected = torch_rates(0.4, theirs, 51)  # beyond T_max torch's cosine rises again
    np.testing.assert_allclose(values(make())[:51], expected, rtol=0, atol=2e-7)  # a power in float32
    np.testing.assert_allclose(exact(make)[:51], expected, rtol=0, atol=1e-9)


peaks = st.floats(0.0009765625, 8.0, width=32)
warmups = st.integers(0, 30)
many = examples(30)


@many
@given(peak=peaks, warmup=warmups, length=st.integers(1, 30), fraction=st.floats(0, 1))
def test_cosine_schedule_rises_to_its_peak_and_falls_to_its_end(peak: float, warmup: int, length: int, fraction: float):
    end, total = peak * fraction, warmup + length
    path = values(cosine(peak, total=total, warmup=warmup, end=end))
    assert (np.diff(path[: warmup + 1]) > 0).all()
    np.testing.assert_allclose(path[warmup], peak, rtol=2e-7)
    assert (np.diff(path[warmup : total + 1]) <= 2e-7 * peak).all()
    np.testing.assert_allclose(path[total:], end, rtol=2e-7, atol=1e-7 * peak)


@many
@given(
    peak=peaks, warmup=warmups, gaps=st.lists(st.integers(1, 10), max_size=3), factor=st.sampled_from([0.1, 0.5, 2.0])
)
def test_multistep_schedule_changes_exactly_at_its_boundaries(peak: float, warmup: int, gaps: list[int], factor: float):
    boundaries = tuple(int(b) for b in warmup + np.cumsum(gaps))
    path = values(multistep(peak, boundaries=boundaries, factor=factor, warmup=warmup))
    assert (np.diff(path[: warmup + 1]) > 0).all()
    changes = np.flatnonzero(np.diff(path[warmup:])) + warmup + 1
    assert tuple(changes) == tuple(b for b in boundaries if b < STEPS)
    for passed, b in enumerate(boundaries, 1):
        if b < STEPS:
            np.testing.assert_allclose(path[b], peak * factor**passed, rtol=5e-7)


def test_as_schedule_turns_a_number_into_a_constant_schedule():
    schedule = cosine(1.0, total=3)
    assert as_schedule(schedule) is schedule
    np.testing.assert_array_equal(values(as_schedule(0.25)), np.full(STEPS, 0.25, np.float32))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cosine(0.1, total=5, warmup=5), r"total=5 steps.*warmup=5 steps"),
        (lambda: cosine(0.1, total=4, warmup=5), r"must end after its warm-up"),
        (lambda: cosine(0.1, total=0), r"total=0"),
        (lambda: cosine(0.1, total=5, end=0.2), r"end=0\.2 is above peak=0\.1"),
        (lambda: multistep(0.1, boundaries=(5, 3)), r"must ascend strictly, got steps \[5, 3\]"),
        (lambda: multistep(0.1, boundaries=(5, 5)), r"must ascend"),
        (lambda: multistep(0.1, boundaries=(5, 9), warmup=5), r"first boundary \(step 5\).*warm-up \(5 steps\)"),
        (lambda: multistep(0.1, boundaries=(0,)), r"first boundary \(step 0\)"),
        (lambda: step(0.1, every=0), r"every=0 must be at least 1 step"),
        (lambda: exponential(0.1, every=5, factor=0.5, end=0.2), r"end=0\.2 is above peak=0\.1"),
        (lambda: linear(0.1, total=5, warmup=6), r"must end after its warm-up"),
        (lambda: sgdr(0.1, period=0), r"period=0"),
        (lambda: sgdr(0.1, period=5, end=0.2), r"end=0\.2 is above"),
        (lambda: cyclic(0.1, total=3, cycles=4), r"3 steps are too few for 4 cycles"),
        (lambda: triangular(0.1, low=0.2, half_period=3), r"low=0\.2 is above"),
        (lambda: one_cycle(0.1, total=3), r"3 steps are too few"),
        (lambda: wsd(0.1, total=10, warmup=5, decay=6), r"decay of 6 steps does not fit.*5 steps.*total=10"),
        (lambda: wsd(0.1, total=10, decay=0), r"decay of 0 steps"),
        (lambda: sutskever_momentum(every=0), r"every=0"),
        (lambda: per_epoch(constant(1.0), examples=2**31 - 1, batch_size=2**31 - 2), r"more than the step counter"),
    ],
)
def test_schedules_refuse_inconsistent_arguments(make: Callable[[], Schedule], message: str):
    with pytest.raises(ValueError, match=message):
        make()


@many
@given(period=st.integers(1, 9), growth=st.sampled_from([1.0, 1.5, 2.0, 3.0]), loss=st.sampled_from([0.5, 0.9, 1.0]))
def test_sgdr_restarts_where_a_period_ends(period: int, growth: float, loss: float):
    path = values(sgdr(1.0, period=period, period_factor=growth, peak_factor=loss))
    begin, length, peak = 0.0, float(period), 1.0
    for t in range(STEPS):
        while t >= begin + length - 1e-9:
            begin, length, peak = begin + length, length * growth, peak * loss
        expected = peak / 2 * (1 + math.cos(math.pi * (t - begin) / length))
        np.testing.assert_allclose(path[t], expected, atol=2e-5)


@many
@given(examples=st.integers(1, 5000), batch=st.integers(1, 600), start=st.integers(0, 2**30))
def test_per_epoch_changes_at_the_first_step_of_an_epoch(examples: int, batch: int, start: int):
    seen: list[int] = []
    schedule = per_epoch(lambda t: seen.append(int(t)) or jnp.float32(0), examples=examples, batch_size=batch)
    schedule(start)
    first = -(-(start * batch // examples) * examples // batch)
    assert seen == [first]
    assert first <= start
