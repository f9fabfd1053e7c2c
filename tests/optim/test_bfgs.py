"""BFGS: its inverse Hessian against the formula in numpy, and what it leaves out."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrain.optim import bfgs
from tests.optim.problems import VALLEY_START, Value, minimize, rosenbrock


def inverse_by_hand(points: np.ndarray, grads: np.ndarray) -> tuple[np.ndarray, int]:
    """Nocedal & Wright 2006, equations 6.17 and 6.20, without the steps that have no curvature; and their number."""
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
    """Holds the inverse after `steps` updates to the formula; gives how many were left out."""
    with jax.enable_x64(True):
        trace = minimize(tx, value_fn, start, steps)
        points = np.array([start, *trace.points[:-1]])  # where it leads to is not known before the next update
        grads = np.asarray(jax.jit(jax.vmap(jax.grad(value_fn)))(jnp.asarray(points)))
    assert np.abs(np.diff(points, axis=0)).max(axis=1).min() > 0
    expected, left_out = inverse_by_hand(points, grads)
    np.testing.assert_allclose(trace.state.inverse, expected, rtol=1e-8, atol=1e-10 * np.abs(expected).max())
    assert np.linalg.eigvalsh(trace.state.inverse).min() > 0
    return left_out


@pytest.mark.slow
def test_the_inverse_is_that_of_the_formula():
    assert compare(bfgs(), rosenbrock, VALLEY_START, 8) == 0


def test_steps_without_curvature_are_left_out():
    """Backtracking does not ask for any, and far from the minimum the function is concave along every axis."""

    def value_fn(x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.asarray([1.0, 2.0, 5.0]) * jnp.log1p(x**2))

    assert compare(bfgs(line_search="armijo"), value_fn, np.array([5.0, -4.0, 3.0]), 9) > 0


def test_too_many_parameters_for_a_dense_matrix_are_refused():
    with pytest.raises(ValueError, match=r"10,001 x 10,001 numbers, 0\.4 GB.*lbfgs"):
        bfgs().init(jnp.zeros(10_001))
