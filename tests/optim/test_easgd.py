"""Elastic averaging SGD in float64 against loops in numpy, and invariants of the elastic force."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from jaxtrain.optim import easgd
from jaxtrain.optim.batch_objective import BatchObjective
from jaxtrain.optim.easgd import elastic_pull
from jaxtrain.optim.param_rules import with_rules
from tests.conftest import examples

STEPS = 20
WORKERS = 3
_rng = np.random.default_rng(4)
START = _rng.normal(size=4)
TARGETS = _rng.normal(size=(WORKERS, 4))
CURVATURE = np.array([0.5, 1.0, 2.0, 3.0])


def values(stacked: Any) -> jax.Array:
    """f_i(x) = sum(c (x - target_i)^2 / 2 + cos x): each worker i has its own target."""
    x = jnp.concatenate([stacked["a"], stacked["b"]], axis=-1)
    own = jnp.asarray(TARGETS, x.dtype)[: x.shape[0]]
    return jnp.sum(jnp.asarray(CURVATURE, x.dtype)[None] * jnp.square(x - own) / 2 + jnp.cos(x), axis=-1)


def slopes(x: np.ndarray) -> np.ndarray:
    return CURVATURE * (x - TARGETS[: len(x)]) - np.sin(x)


def tree(x: Any) -> Any:
    return {"a": x[..., :1], "b": x[..., 1:]}


def flat(x: Any) -> np.ndarray:
    return np.concatenate([np.asarray(x["a"]), np.asarray(x["b"])], axis=-1)


def rate(t: Any) -> Any:
    return 0.1 * 0.97**t


def schedule(t: Any) -> Any:
    return rate(jnp.asarray(t).astype(jnp.result_type(float)))


def ours(tx: optax.GradientTransformationExtraArgs, **extra: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return center and workers after each step. The gradient at the center is NaN: it must not be used."""

    def body(carry: Any, _: None) -> Any:
        x, state = carry
        updates, state = tx.update(jax.tree.map(lambda p: p * jnp.nan, x), state, x, **extra)
        x = optax.apply_updates(x, updates)
        return (x, state), (x, state.workers)

    with jax.enable_x64(True):
        run = jax.jit(lambda x: jax.lax.scan(body, (x, tx.init(x)), None, length=STEPS)[1])
        center, workers = run(tree(jnp.asarray(START)))
        assert center["a"].dtype == workers["a"].dtype == jnp.float64
        return flat(center), flat(workers)


@functools.cache
def path_of(workers: int, moving_rate: float, period: int, momentum: float) -> tuple[np.ndarray, np.ndarray]:
    tx = easgd(schedule, workers=workers, moving_rate=moving_rate, period=period, momentum=momentum)
    return ours(tx, objective=BatchObjective(worker_values=values))


def by_hand(workers: int, moving_rate: float, period: int, momentum: float) -> tuple[np.ndarray, np.ndarray]:
    """Zhang et al. 2015: algorithm 2 with all workers in step, of which algorithm 1 is the case without momentum."""
    center, x, v = START.copy(), np.repeat(START[None], workers, 0), np.zeros((workers, 4))
    alpha, centers, path = moving_rate / workers, [], []
    for t in range(STEPS):
        v = momentum * v - rate(t) * slopes(x + momentum * v)
        away = x - center
        x = x + v
        if t % period == 0:
            x = x - alpha * away
            center = center + alpha * away.sum(axis=0)
        centers.append(center)
        path.append(x)
    return np.array(centers), np.array(path)


CASES = {
    "plain": (WORKERS, 0.9, 1, 0.0),
    "period": (WORKERS, 0.6, 4, 0.0),
    "momentum": (WORKERS, 0.9, 1, 0.8),
    "momentum-period": (WORKERS, 0.3, 3, 0.8),
    "alone": (1, 0.9, 1, 0.0),
}


@pytest.mark.quick_cases("period")
@pytest.mark.parametrize("case", CASES)
def test_easgd_equals_numpy(case: str):
    for actual, expected in zip(path_of(*CASES[case]), by_hand(*CASES[case]), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)
        assert np.abs(expected[-1] - START).max() > 0.1


@pytest.mark.parametrize("case", [(WORKERS, 1.0, 1000, 0.0), (WORKERS, 1e-14, 1, 0.0)], ids=["period", "moving-rate"])
def test_easgd_without_coupling_runs_sgd_on_each_worker(case: Any):
    """A period beyond the run, or a moving rate near 0, gives plain SGD on each worker and a constant center."""
    center, workers = path_of(*case)
    x = np.repeat(START[None], WORKERS, 0)
    for t in range(STEPS):
        x = x - rate(t) * slopes(x)
        np.testing.assert_allclose(workers[t], x, rtol=0, atol=1e-12)
    np.testing.assert_allclose(center, np.repeat(START[None], STEPS, 0), rtol=0, atol=1e-11)
    assert np.abs(workers[-1] - workers[-1, :1]).max() > 0.1


def test_easgd_with_one_objective_keeps_the_workers_equal():
    """With `value_fn` alone, every worker has the same objective."""

    def value(x: Any) -> jax.Array:
        return values(jax.tree.map(lambda p: p[None], x))[0]

    tx = easgd(schedule, workers=WORKERS, moving_rate=0.9)
    center, workers = ours(tx, value_fn=value)
    alone = by_hand(1, 0.9, 1, 0.0)
    x, middle = START.copy(), START.copy()
    for t in range(STEPS):
        away = x - middle
        x, middle = x - rate(t) * slopes(x[None])[0] - 0.3 * away, middle + 0.9 * away
        np.testing.assert_allclose(workers[t], np.repeat(x[None], WORKERS, 0), rtol=0, atol=1e-12)
        np.testing.assert_allclose(center[t], middle, rtol=0, atol=1e-12)
    assert np.abs(alone[0][-1] - center[-1]).max() > 1e-3  # a weaker spring on each


reals = st.floats(-8, 8, width=32, allow_subnormal=False)


@pytest.mark.slow
@examples(50)
@given(before=npst.arrays(np.float32, (WORKERS, 2), elements=reals), rate=st.floats(0, 1))
def test_elastic_pull_keeps_the_sum_of_workers_and_center(before: np.ndarray, rate: float):
    """With no gradients the sum of all workers and the center is kept, and the workers' spread never grows."""
    center = jnp.asarray([1.0, -2.0])
    workers, after = elastic_pull(jnp.asarray(before), jnp.asarray(before), center, rate)
    np.testing.assert_allclose(workers.sum(axis=0) + after, before.sum(axis=0) + center, rtol=0, atol=2e-5)
    assert np.var(workers, axis=0).sum() <= np.var(before, axis=0).sum() * (1 + 1e-5) + 1e-6


def test_easgd_keeps_dtypes_and_one_copy_for_each_worker():
    """Without momentum the state holds one copy for each worker and no velocities; dtypes stay."""
    params = {"a": jnp.ones((2, 3), jnp.bfloat16), "b": (jnp.ones(()), optax.MaskedNode())}
    plain, heavy = easgd(0.1, workers=2), easgd(0.1, workers=2, momentum=0.5)
    assert sum(x.size for x in jax.tree.leaves(plain.init(params).workers)) == 2 * 7
    assert plain.init(params).velocity == ()

    def objective(p: Any) -> jax.Array:
        return sum(jnp.sum(x.astype(jnp.float32) ** 2) for x in jax.tree.leaves(p))

    def shapes(tree: Any) -> Any:
        return jax.tree.map(lambda x: (x.shape, x.dtype), tree)

    for tx in (plain, heavy):
        state = tx.init(params)
        arrays = jax.tree.leaves((params, state))
        assert len({x.unsafe_buffer_pointer() for x in arrays}) == len(arrays)
        step = jax.jit(lambda s, tx=tx: tx.update(params, s, params, value_fn=objective, unheard_of=1))
        updates, after = step(state)
        assert shapes(updates) == shapes(params)
        assert shapes(after) == shapes(state)


@pytest.mark.slow
def test_easgd_keeps_no_worker_copies_of_frozen_parameters():
    """The objective still gets the frozen parameters, once for each worker."""
    params = tree(jnp.asarray(START, jnp.float32))
    tx = with_rules(easgd(0.1, workers=WORKERS), ((".*", 1.0),), (("a", 1.0), (".*", 0.0)))
    state = tx.init(params)
    assert isinstance(state.workers["a"], optax.MaskedNode)
    for _ in range(2):
        updates, state = tx.update(params, state, params, objective=BatchObjective(worker_values=values))
    np.testing.assert_array_equal(updates["a"], 0.0)
    assert (np.asarray(updates["b"]) != 0).all()


def test_easgd_without_objectives_raises_an_error():
    tx, params = easgd(0.1), {"a": jnp.ones(2)}
    with pytest.raises(ValueError, match="worker_values"):
        tx.update(params, tx.init(params), params)
