"""BFGS: its inverse Hessian against the formula in numpy, and the updates that it skips."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrain.optim import bfgs
from tests.optim.problems import VALLEY_START, Value, minimize, rosenbrock


def inverse_by_hand(points: np.ndarray, grads: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the inverse of Nocedal & Wright 2006, equations 6.17 and 6.20, and the number of skipped steps."""
    identity = np.eye(points.shape[1])
    inverse, fresh, left_out = identity, True, 0
    for s, y in zip(np.diff(points, axis=0), np.diff(grads, axis=0), strict=True):
        if s @ y <= 1e-10 * np.linalg.norm(s) * np.linalg.norm(y):
            left_out += 1
            continue
        if fresh:
            inverse = s @ y / (y @ y) * identity
        left = identity - np.outer(s, y) / (s @ y)
        inverse, fresh = left @ inverse @ left.T + np.outer(s, s) / (s @ y), False
    return inverse, left_out


def compare(tx: Any, value_fn: Value, start: np.ndarray, steps: int) -> int:
    """Assert that the inverse after `steps` updates equals the formula; return the number of skipped updates."""
    with jax.enable_x64(True):
        trace = minimize(tx, value_fn, start, steps)
        points = np.array([start, *trace.points[:-1]])  # the last step enters the inverse at the next update
        grads = np.asarray(jax.jit(jax.vmap(jax.grad(value_fn)))(jnp.asarray(points)))
    assert np.abs(np.diff(points, axis=0)).max(axis=1).min() > 0
    expected, left_out = inverse_by_hand(points, grads)
    np.testing.assert_allclose(trace.state.inverse, expected, rtol=1e-8, atol=1e-10 * np.abs(expected).max())
    assert np.linalg.eigvalsh(trace.state.inverse).min() > 0
    return left_out


@pytest.mark.slow
def test_bfgs_inverse_hessian_equals_the_formula():
    assert compare(bfgs(), rosenbrock, VALLEY_START, 8) == 0


def test_bfgs_skips_updates_without_positive_curvature():
    """Backtracking needs no curvature, and far from the minimum the function is concave along every axis."""

    def value_fn(x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.asarray([1.0, 2.0, 5.0]) * jnp.log1p(x**2))

    assert compare(bfgs(line_search="armijo"), value_fn, np.array([5.0, -4.0, 3.0]), 9) > 0


def test_bfgs_refuses_too_many_parameters_for_a_dense_matrix():
    with pytest.raises(ValueError, match=r"10,001 x 10,001 numbers, 0\.4 GB.*lbfgs"):
        bfgs().init(jnp.zeros(10_001))
