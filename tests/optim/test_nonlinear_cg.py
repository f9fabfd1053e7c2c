"""Nonlinear conjugate gradients against linear conjugate gradients, and directions against their formulas."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxtrain.optim import nonlinear_cg
from tests.optim.problems import minimize, wavy

methods = pytest.mark.parametrize("method", ["polak_ribiere", "fletcher_reeves"])
SIZE = 8


@functools.cache
def system() -> tuple[np.ndarray, np.ndarray]:
    """A positive definite matrix with eigenvalues from 1 to 30, and a right-hand side."""
    rng = np.random.default_rng(2)
    q = np.linalg.qr(rng.normal(size=(SIZE, SIZE)))[0]
    return q @ np.diag(np.linspace(1, 30, SIZE)) @ q.T, rng.normal(size=SIZE)


def linear_cg(matrix: np.ndarray, right: np.ndarray, steps: int) -> np.ndarray:
    """The points of Hestenes & Stiefel 1952, from 0 (Nocedal & Wright 2006, algorithm 5.2)."""
    x, residual, points = np.zeros_like(right), -right, []
    direction = right
    for _ in range(steps):
        alpha = residual @ residual / (direction @ matrix @ direction)
        x, after = x + alpha * direction, residual + alpha * matrix @ direction
        direction = -after + after @ after / (residual @ residual) * direction
        residual = after
        points.append(x)
    return np.array(points)


@pytest.mark.quick_cases("polak_ribiere")
@methods
def test_nonlinear_cg_solves_a_quadratic_in_as_many_steps_as_dimensions(method: Any):
    """With nearly exact line searches, both methods equal linear conjugate gradients."""
    matrix, right = system()

    def value_fn(x: jax.Array) -> jax.Array:
        return x @ jnp.asarray(matrix) @ x / 2 - jnp.asarray(right) @ x

    with jax.enable_x64(True):
        trace = minimize(nonlinear_cg(method=method, c2=1e-3), value_fn, np.zeros(SIZE), SIZE)
        loose = minimize(nonlinear_cg(method=method), value_fn, np.zeros(SIZE), 40)
    solution = np.linalg.solve(matrix, right)
    np.testing.assert_allclose(trace.points, linear_cg(matrix, right, SIZE), atol=1e-4)
    np.testing.assert_allclose(trace.points[-1], solution, atol=1e-8)
    assert np.abs(trace.points[-2] - solution).max() > 1e-4  # no step was too many
    np.testing.assert_allclose(loose.points[-1], solution, atol=1e-6)  # nor need the searches be exact


def directions_by_hand(method: str, grads: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Return the directions at these gradients, if every line search succeeds, and their betas."""
    directions, betas = [-grads[0]], []
    for before, now in itertools.pairwise(grads):
        if method == "polak_ribiere":
            beta = max(0.0, now @ (now - before) / (before @ before))
        else:
            beta = 0.0 if abs(now @ before) >= 0.2 * (now @ now) else now @ now / (before @ before)
        direction = -now + beta * directions[-1]
        if now @ direction >= 0:
            direction = -now
        directions.append(direction)
        betas.append(beta)
    return np.array(directions), betas


@pytest.mark.quick_cases("polak_ribiere")
@methods
def test_nonlinear_cg_directions_equal_the_formula(method: Any):
    """On a nonconvex function: some directions restart, some do not."""
    value_fn, start = wavy(7, 5), 2 * np.random.default_rng(3).normal(size=5)
    with jax.enable_x64(True):
        trace = minimize(nonlinear_cg(method=method), value_fn, start, 14)
        points = np.array([start, *trace.points])
        grads = np.asarray(jax.jit(jax.vmap(jax.grad(value_fn)))(jnp.asarray(points[:-1])))
    directions, betas = directions_by_hand(method, grads)
    steps = np.diff(points, axis=0)
    lengths = np.linalg.norm(steps, axis=1, keepdims=True)
    assert lengths.min() > 0
    expected = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    np.testing.assert_allclose(steps / lengths, expected, atol=1e-6)
    assert min(betas) == 0
    assert max(betas) > 0.01


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"c2": 1e-4}, r"c2=0\.0001 must be above c1=0\.0001"),
        ({"method": "fletcher_reeves", "c2": 0.5}, r"below 0\.5, and c2 is 0\.5"),
    ],
)
def test_nonlinear_cg_refuses_inconsistent_wolfe_conditions(options: Any, says: str):
    with pytest.raises(ValueError, match=says):
        nonlinear_cg(**options)


@pytest.mark.slow
def test_nonlinear_cg_accepts_an_injected_c2():
    """As an array in the state of `optax.inject_hyperparams`; a looser search takes fewer evaluations."""
    static = ("method", "line_search", "max_evaluations")
    tx = optax.inject_hyperparams(nonlinear_cg, static_args=static)(c2=1e-3)
    matrix, right = (jnp.asarray(x, jnp.float32) for x in system())

    def value_fn(x: jax.Array) -> jax.Array:
        return x @ matrix @ x / 2 - right @ x

    x = jnp.ones(SIZE)
    value, grad = jax.value_and_grad(value_fn)(x)
    state = tx.init(x)
    loose = state._replace(hyperparams={"c2": jnp.float32(0.999)})
    update = jax.jit(lambda s: tx.update(grad, s, x, value=value, value_fn=value_fn)[1].inner_state.evaluations)
    assert update(loose) < update(state)
