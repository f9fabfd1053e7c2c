"""Hessian-free optimization against loops in numpy: conjugate gradients, the damping, and whole updates."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtrain.optim import hessian_free
from jaxtrain.optim.batch_objective import BatchObjective
from jaxtrain.optim.hessian_free import solve_truncated_cg
from tests.conftest import examples
from tests.optim.problems import VALLEY_START, minimize, rosenbrock, steps_to


def cg_by_hand(matrix: np.ndarray, gradient: np.ndarray, start: np.ndarray, most: int) -> tuple[np.ndarray, int]:
    """Conjugate gradients (Hestenes & Stiefel 1952) on matrix p = -gradient, with the documented stopping rules."""
    length = np.linalg.norm(gradient)
    p, r = start, -gradient - matrix @ start
    d, used = r, 0
    while used < most and np.linalg.norm(r) > min(0.5, np.sqrt(length)) * length:
        image = matrix @ d
        bend, used = d @ image, used + 1
        if bend <= 0:
            return (-gradient if used == 1 else p), used
        alpha = (r @ r) / bend
        p, before, r = p + alpha * d, r, r - alpha * image
        d = r + (r @ r) / (before @ before) * d
    return p, used


@jax.jit
def cg(matrix: jax.Array, gradient: jax.Array, start: jax.Array, most: Any) -> Any:
    return solve_truncated_cg(lambda v: matrix @ v, jnp.asarray(0.1, matrix.dtype), gradient, most, start)


@examples(60)
@given(
    seed=st.integers(0, 2**32 - 1),
    least=st.sampled_from([-3.0, 0.5]),
    size=st.sampled_from([1e-8, 1e-3, 1.0]),
    most=st.integers(1, 12),
)
def test_truncated_cg_equals_textbook_conjugate_gradients(seed: int, least: float, size: float, most: int):
    """From random starts, with random iteration limits, with and without negative curvature."""
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    matrix = q @ np.diag(rng.uniform(least, 5, 6)) @ q.T
    gradient, start = size * rng.normal(size=(2, 6))
    with jax.enable_x64(True):
        found, used = cg(*(jnp.asarray(x) for x in (matrix, gradient, start, np.int32(most))))
    expected, steps = cg_by_hand(matrix + 0.1 * np.eye(6), gradient, start, most)
    assert int(used) == steps
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


def waves(x: jax.Array) -> jax.Array:
    """A nonconvex function with a maximum at (0, 0)."""
    return jnp.sum(jnp.cos(3 * x)) + 0.1 * jnp.sum(x * x) + 0.2 * x[0] * x[1] + 0.02 * jnp.sum(x**4)


def waves_by_hand(x: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Value, gradient and Hessian."""
    value = np.cos(3 * x).sum() + 0.1 * x @ x + 0.2 * x[0] * x[1] + 0.02 * (x**4).sum()
    gradient = -3 * np.sin(3 * x) + 0.2 * x + 0.2 * x[::-1] + 0.08 * x**3
    return value, gradient, np.diag(0.2 - 9 * np.cos(3 * x) + 0.24 * x**2) + 0.2 * np.eye(2)[::-1]


def rosenbrock_by_hand(x: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Value, gradient and Hessian."""
    off = x[1] - x[0] ** 2
    gradient = np.array([-400 * x[0] * off - 2 * (1 - x[0]), 200 * off])
    hessian = np.array([[1200 * x[0] ** 2 - 400 * x[1] + 2, -400 * x[0]], [-400 * x[0], 200]])
    return 100 * off**2 + (1 - x[0]) ** 2, gradient, hessian


def hessian_free_by_hand(function: Any, x: np.ndarray, decay: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and dampings with the Hessian, from a damping of 1."""
    damping, latest, points, dampings = 1.0, np.zeros(2), [], [1.0]
    for _ in range(steps):
        value, g, h = function(x)
        direction, _ = cg_by_hand(h + damping * np.eye(2), g, decay * latest, 50)
        if direction @ g >= 0:
            direction = -g
        t, slope = 1.0, direction @ g
        while (trial := function(x + t * direction)[0]) > value + 1e-4 * t * slope:
            lowest = -slope * t**2 / (2 * (trial - value - slope * t))
            t = float(np.clip(lowest, 0.1 * t, 0.5 * t))
        latest = t * direction
        gain = (value - trial) / -(g @ latest + latest @ h @ latest / 2)
        damping *= 2 / 3 if gain > 0.75 else 1.5 if gain < 0.25 else 1
        x = x + latest
        points.append(x)
        dampings.append(damping)
    return np.array(points), np.array(dampings)


VALLEY, HILL = (rosenbrock, rosenbrock_by_hand, VALLEY_START, 16), (waves, waves_by_hand, np.array([-0.3, 1.8]), 8)


@pytest.mark.quick_cases("valley-0.95", "hill-0.0")
@pytest.mark.parametrize("decay", [0.0, 0.95])
@pytest.mark.parametrize("problem", [VALLEY, HILL], ids=["valley", "hill"])
def test_hessian_free_equals_numpy(problem: Any, decay: float):
    value_fn, by_hand, start, steps = problem
    with jax.enable_x64(True):
        trace = minimize(hessian_free(curvature="hessian", cg_decay=decay), value_fn, start, steps)
    points, dampings = hessian_free_by_hand(by_hand, start, decay, steps)
    assert value_fn is rosenbrock or dampings.max() > 2 > 1 > dampings[-1]  # on the hill the damping rises, then falls
    np.testing.assert_allclose(trace.points, points, rtol=1e-6)
    np.testing.assert_allclose(trace.state.damping, dampings[-1], rtol=1e-9)


@pytest.mark.slow
def test_hessian_free_with_warm_started_cg_needs_fewer_updates():
    with jax.enable_x64(True):
        cold, warm = (
            steps_to(minimize(hessian_free(curvature="hessian", cg_decay=d), rosenbrock, VALLEY_START, 60).values, 1e-9)
            for d in (0.0, 0.95)
        )
    assert warm < 0.7 * cold


@pytest.mark.slow
def test_hessian_free_damping_stays_within_a_recoverable_range():
    """At the optimum every step fails; on a constant slope every step succeeds."""

    def bowl(x: jax.Array) -> jax.Array:
        return 1 + jnp.sum(jnp.square(x - 0.3))

    def slope(x: jax.Array) -> jax.Array:
        return 1e-4 * jnp.sum(x)

    tx = hessian_free(curvature="hessian")
    at_rest = minimize(tx, bowl, np.ones(2, np.float32), 300)
    assert 1e-8 < at_rest.state.damping < 1e8
    np.testing.assert_allclose(at_rest.points[-1], 0.3, rtol=1e-5)
    assert 1e-8 < minimize(tx, slope, np.ones(2, np.float32), 300).state.damping < 1e-6
    assert minimize(hessian_free(curvature="hessian", damping=0.0), bowl, np.ones(2, np.float32), 9).state.damping == 0


@pytest.mark.quick_cases("0.95")
@pytest.mark.parametrize("decay", [0.0, 0.95])
def test_hessian_free_skips_a_nonfinite_gradient_and_recovers(decay: float):
    x, tx = jnp.asarray(VALLEY_START, jnp.float32), hessian_free(curvature="hessian", cg_decay=decay)
    compiled = jax.jit(lambda g, s: tx.update(g, s, x, value_fn=rosenbrock))
    step, state = compiled(jax.grad(rosenbrock)(x), tx.init(x))
    assert np.any(step != 0)
    for bad in (np.nan, np.inf):
        nothing, after = compiled(jnp.asarray([bad, 1], jnp.float32), state)
        np.testing.assert_array_equal(nothing, [0, 0])
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))
        step, _ = compiled(jax.grad(rosenbrock)(x), after)
        assert rosenbrock(x + step) < rosenbrock(x)


def test_hessian_free_minimizes_a_penalty_outside_the_gauss_newton_matrix():
    """Ridge regression has a known solution; the Gauss-Newton matrix covers only the squared residuals."""
    rng = np.random.default_rng(2)
    inputs, targets = rng.normal(size=(30, 4)), rng.normal(size=(30, 2))

    def outputs(p: Any) -> jax.Array:
        return jnp.asarray(inputs) @ p["kernel"]

    def loss(y: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(y - jnp.asarray(targets))) / 60

    def value_fn(p: Any) -> jax.Array:
        return loss(outputs(p)) + 0.05 * jnp.sum(jnp.square(p["kernel"]))

    def body(carry: Any, _: None) -> Any:
        params, state = carry
        value, grad = jax.value_and_grad(value_fn)(params)
        extra = {"value_fn": value_fn, "objective": BatchObjective(outputs=outputs, output_loss=loss)}
        update, state = tx.update(grad, state, params, value=value, **extra)
        return (optax.apply_updates(params, update), state), value

    with jax.enable_x64(True):
        tx, params = hessian_free(damping=0.1), {"kernel": jnp.ones((4, 2))}
        run = jax.jit(lambda p: jax.lax.scan(body, (p, tx.init(p)), None, length=30))
        (end, _), values = run(params)
    expected = np.linalg.solve(inputs.T @ inputs / 30 + 0.1 * np.eye(4), inputs.T @ targets / 30)
    np.testing.assert_allclose(end["kernel"], expected, rtol=1e-7)
    assert np.all(np.diff(values) <= 0)


def test_hessian_free_accepts_a_tree_without_parameters():
    tx, tree = hessian_free(curvature="hessian"), {"a": optax.MaskedNode(), "b": ()}
    update, state = tx.update(tree, tx.init(tree), tree, value_fn=lambda _: jnp.float32(1))
    assert update == tree
    assert jax.tree.structure(state) == jax.tree.structure(tx.init(tree))
