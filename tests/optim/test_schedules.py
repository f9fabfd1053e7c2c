"""Schedules against closed forms in float64 and against torch's schedulers, and what holds for any options.

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
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxtrain.optim.schedules import Schedule, as_schedule, constant, cosine, step

STEPS = 64
"""Steps that are looked at: always as many, so that each operation is compiled once."""


def values(schedule: Schedule) -> np.ndarray:
    return np.asarray(jax.vmap(schedule)(jnp.arange(STEPS, dtype=jnp.int32)))


def exact(make: Callable[[], Schedule]) -> np.ndarray:
    with jax.enable_x64(True):
        result = values(make())
    assert result.dtype == np.float64
    return result


def cosine_form(peak: float, total: int, warmup: int, end: float) -> list[float]:
    """Loshchilov & Hutter 2017, equation 5, over what the warm-up leaves of the run."""
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


CASES: dict[str, tuple[Callable[[], Schedule], list[float]]] = {
    "constant": (lambda: constant(0.3), [0.3] * STEPS),
    "constant-warmup": (lambda: constant(0.3, warmup=7), [0.3 * min(t / 7, 1) for t in range(STEPS)]),
    "cosine": (lambda: cosine(0.1, total=50), cosine_form(0.1, 50, 0, 0.0)),
    "cosine-end": (lambda: cosine(0.5, total=50, end=0.02), cosine_form(0.5, 50, 0, 0.02)),
    "cosine-warmup": (lambda: cosine(0.5, total=50, warmup=11, end=0.02), cosine_form(0.5, 50, 11, 0.02)),
    "cosine-one-step": (lambda: cosine(0.5, total=12, warmup=11), cosine_form(0.5, 12, 11, 0.0)),
    "step": (lambda: step(0.1, boundaries=(20, 40)), step_form(0.1, (20, 40), 0.1, 0)),
    "step-warmup": (
        lambda: step(0.8, boundaries=(20, 21, 60), factor=0.5, warmup=6),
        step_form(0.8, (20, 21, 60), 0.5, 6),
    ),
    "step-none": (lambda: step(0.8, boundaries=()), [0.8] * STEPS),
}


@pytest.mark.parametrize("case", CASES)
def test_closed_form(case: str):
    make, expected = CASES[case]
    peak = max(expected)
    np.testing.assert_allclose(exact(make), expected, rtol=1e-12, atol=1e-15)
    single = values(make())
    assert single.dtype == np.float32
    # cos and pow in float32 are good to an ulp or two of the peak, 1.2e-7 each
    np.testing.assert_allclose(single, expected, rtol=0, atol=2.5e-7 * peak)


@pytest.mark.parametrize("case", CASES)
def test_a_scalar_step_inside_jit_equals_the_eager_value(case: str):
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
        (lambda: step(0.4, boundaries=(10, 30, 45)), lambda s, o: s.MultiStepLR(o, [10, 30, 45])),
        (lambda: step(0.4, boundaries=(1,), factor=0.2), lambda s, o: s.MultiStepLR(o, [1], gamma=0.2)),
        (lambda: constant(0.4, warmup=12), warmed(12, lambda s, o: s.ConstantLR(o, factor=1.0))),
        (lambda: cosine(0.4, total=50, warmup=12), warmed(12, lambda s, o: s.CosineAnnealingLR(o, T_max=38))),
        # torch counts the second scheduler's milestones from where it starts, jaxtrain from the start of the run
        (lambda: step(0.4, boundaries=(20, 40), warmup=12), warmed(12, lambda s, o: s.MultiStepLR(o, [8, 28]))),
    ],
    ids=["cosine", "cosine-end", "step", "step-factor", "warmup", "warmup-cosine", "warmup-step"],
)
def test_equals_torch(make: Callable[[], Schedule], theirs: Callable[[Any, Any], Any]):
    expected = torch_rates(0.4, theirs, 51)  # beyond T_max torch's cosine rises again
    np.testing.assert_allclose(values(make())[:51], expected, rtol=0, atol=1e-7)
    np.testing.assert_allclose(exact(make)[:51], expected, rtol=0, atol=1e-9)


peaks = st.floats(0.0009765625, 8.0, width=32)
warmups = st.integers(0, 30)
many = settings(max_examples=30, deadline=None)


@many
@given(peak=peaks, warmup=warmups, length=st.integers(1, 30), fraction=st.floats(0, 1))
def test_any_cosine(peak: float, warmup: int, length: int, fraction: float):
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
def test_any_step_changes_exactly_at_its_boundaries(peak: float, warmup: int, gaps: list[int], factor: float):
    boundaries = tuple(int(b) for b in warmup + np.cumsum(gaps))
    path = values(step(peak, boundaries=boundaries, factor=factor, warmup=warmup))
    assert (np.diff(path[: warmup + 1]) > 0).all()
    changes = np.flatnonzero(np.diff(path[warmup:])) + warmup + 1
    assert tuple(changes) == tuple(b for b in boundaries if b < STEPS)
    for passed, b in enumerate(boundaries, 1):
        if b < STEPS:
            np.testing.assert_allclose(path[b], peak * factor**passed, rtol=5e-7)


def test_a_number_is_a_constant_schedule_and_a_schedule_stays_itself():
    schedule = cosine(1.0, total=3)
    assert as_schedule(schedule) is schedule
    np.testing.assert_array_equal(values(as_schedule(0.25)), np.full(STEPS, 0.25, np.float32))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cosine(0.1, total=5, warmup=5), r"total=5 steps.*warmup=5 steps"),
        (lambda: cosine(0.1, total=4, warmup=5), r"ends .*before its warm-up"),
        (lambda: cosine(0.1, total=0), r"total=0"),
        (lambda: cosine(0.1, total=5, end=0.2), r"end=0\.2 lies above peak=0\.1"),
        (lambda: step(0.1, boundaries=(5, 3)), r"must ascend, got steps \[5, 3\]"),
        (lambda: step(0.1, boundaries=(5, 5)), r"must ascend"),
        (lambda: step(0.1, boundaries=(5, 9), warmup=5), r"first boundary \(step 5\).*warm-up \(5 steps\)"),
        (lambda: step(0.1, boundaries=(0,)), r"first boundary \(step 0\)"),
    ],
)
def test_impossible_schedules_are_refused(make: Callable[[], Schedule], message: str):
    with pytest.raises(ValueError, match=message):
        make()
