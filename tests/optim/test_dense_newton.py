"""Newton's method against numpy: the damped system, Nielsen's damping rule, nonfinite gradients and empty trees."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtrain.optim import newton
from tests.conftest import examples
from tests.optim.problems import VALLEY_START, minimize, rosenbrock


def as_vector(tree: Any) -> jax.Array:
    return jnp.concatenate([x.reshape(-1) for x in jax.tree.leaves(tree)])


@jax.jit
def damped_step(matrix: jax.Array, target: jax.Array, damping: Any, start: jax.Array) -> jax.Array:
    """Return the undamped-search update at `start` on a quadratic around `target`, for a tree of several leaves."""

    def value_fn(tree: Any) -> jax.Array:
        away = as_vector(tree) - target
        return away @ matrix @ away / 2

    tree = {"a": start[:4].reshape(2, 2), "b": (start[4:5], start[5])}
    tx = newton(damping=damping, levenberg_marquardt=False)
    update, _ = tx.update(jax.grad(value_fn)(tree), tx.init(tree), tree, value_fn=value_fn)
    return as_vector(update)


@examples(40)
@given(seed=st.integers(0, 2**32 - 1), damping=st.floats(0, 1e3))
def test_newton_step_solves_the_damped_system(seed: int, damping: float):
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    matrix = q @ np.diag(rng.uniform(0.5, 10, 6)) @ q.T
    target, start = rng.normal(size=(2, 6))
    with jax.enable_x64(True):
        step = damped_step(*(jnp.asarray(x) for x in (matrix, target, np.float64(damping), start)))
    expected = -np.linalg.solve(matrix + damping * np.eye(6), matrix @ (start - target))
    np.testing.assert_allclose(step, expected, rtol=1e-9, atol=1e-12)


def nielsen_on_rosenbrock(damping: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and dampings of the published loop, one trial at a time."""
    x, growth, points, dampings = VALLEY_START.copy(), 2.0, [], []

    def value(p: np.ndarray) -> float:
        return 100 * (p[1] - p[0] ** 2) ** 2 + (1 - p[0]) ** 2

    for _ in range(steps):
        g = np.array([-400 * x[0] * (x[1] - x[0] ** 2) - 2 * (1 - x[0]), 200 * (x[1] - x[0] ** 2)])
        h = np.array([[1200 * x[0] ** 2 - 400 * x[1] + 2, -400 * x[0]], [-400 * x[0], 200]])
        while True:
            step = -np.linalg.solve(h + damping * np.eye(2), g)
            positive = np.linalg.eigvalsh(h + damping * np.eye(2))[0] > 0
            decrease = value(x) - value(x + step)
            if positive and decrease > 0:
                gain = decrease / (step @ (damping * step - g) / 2)
                damping, growth = damping * max(1 / 3, 1 - (2 * gain - 1) ** 3), 2.0
                x = x + step
                break
            damping, growth = damping * growth, growth * 2
        points.append(x)
        dampings.append(damping)
    return np.array(points), np.array(dampings)


@pytest.mark.slow
def test_newton_damping_follows_the_rule_of_nielsen():
    with jax.enable_x64(True):
        short = minimize(newton(damping=1e-3), rosenbrock, VALLEY_START, 6)
        trace = minimize(newton(damping=1e-3), rosenbrock, VALLEY_START, 18)
    points, dampings = nielsen_on_rosenbrock(1e-3, 18)
    assert np.max(np.diff(dampings)) > 0 > np.min(np.diff(dampings))  # the damping rises and falls on this path
    np.testing.assert_allclose(trace.points, points, rtol=1e-8)
    np.testing.assert_allclose(short.state.damping, dampings[5], rtol=1e-6)
    np.testing.assert_allclose(trace.state.damping, dampings[17], rtol=1e-6)


@pytest.mark.slow
def test_newton_skips_a_nonfinite_gradient_and_recovers():
    x, tx = jnp.asarray(VALLEY_START, jnp.float32), newton()
    compiled = jax.jit(lambda g, s: tx.update(g, s, x, value_fn=rosenbrock))
    nothing, state = compiled(jnp.asarray([np.nan, 1], jnp.float32), tx.init(x))
    np.testing.assert_array_equal(nothing, [0, 0])
    step, _ = compiled(jax.grad(rosenbrock)(x), state)
    assert rosenbrock(x + step) < rosenbrock(x)


def test_newton_in_bfloat16_never_increases_the_objective():
    """Newton evaluates each trial at the rounded point, where the value may be higher than before rounding."""

    def value_fn(x: jax.Array) -> jax.Array:
        wide = x.astype(jnp.float32)
        return jnp.sum(jnp.cos(3 * wide) + 0.3 * wide**2)

    starts = jnp.asarray(np.random.default_rng(0).normal(size=(200, 3)), jnp.bfloat16)
    run = jax.vmap(lambda x: _rises(newton(), value_fn, x, 20))
    rises = np.asarray(jax.jit(run)(starts))
    assert rises.max() <= 0
    assert (rises[:, 0] < 0).all()


def _rises(tx: Any, value_fn: Any, start: jax.Array, steps: int) -> jax.Array:
    def body(carry: Any, _: None) -> Any:
        x, state = carry
        value, grad = jax.value_and_grad(value_fn)(x)
        update, state = tx.update(grad, state, x, value=value, value_fn=value_fn)
        after = optax.apply_updates(x, update)
        return (after, state), value_fn(after) - value

    return jax.lax.scan(body, (start, tx.init(start)), None, length=steps)[1]


@pytest.mark.slow
@pytest.mark.parametrize("levenberg_marquardt", [True, False])
def test_newton_accepts_a_tree_without_parameters(levenberg_marquardt: bool):
    tx, tree = newton(levenberg_marquardt=levenberg_marquardt), {"a": optax.MaskedNode(), "b": ()}
    update, _ = tx.update(tree, tx.init(tree), tree, value_fn=lambda _: jnp.float32(1))
    assert update == tree


def test_newton_refuses_a_damping_above_max_damping():
    with pytest.raises(ValueError, match=r"max_damping=10\.0, and damping=11\.0"):
        newton(damping=11.0, max_damping=10.0)
    newton(damping=11.0, max_damping=10.0, levenberg_marquardt=False)  # without Levenberg-Marquardt there is no limit
