"""Line searches: their conditions, nonfinite values, and the number of evaluations against SciPy."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jaxtrain.optim.line_search import search
from tests.conftest import examples

# phi of a line; all fall from 0 at the start. The first three are those of More & Thuente 1994, section 5.
LINES: dict[str, Callable[[Any], Any]] = {
    "rational": lambda t: -t / (t * t + 2),
    "steep": lambda t: (t + 0.004) ** 5 - 2 * (t + 0.004) ** 4,
    "ripples": lambda t: (
        jnp.where(t <= 0.99, 1 - t, jnp.where(t >= 1.01, t - 1, 0.5 * ((t - 1) ** 2 / 0.01 + 0.01)))
        + 2 * 0.99 / (39 * jnp.pi) * jnp.sin(39 * jnp.pi / 2 * t)
    ),
    "parabola": lambda t: 0.5 * (t - 3) ** 2,
    "exponential": lambda t: jnp.exp(-t) + 0.1 * t,
    "log": lambda t: t - jnp.log(t + 1e-3),
}


def along(name: str, kind: str, initial: float, c2: float = 0.9) -> tuple[Any, Any, Any]:
    """Return the search along a line where the point equals the step, and value and slope at the start."""
    with jax.enable_x64(True):
        return jax.device_get(compiled_line(name, kind, c2)(jnp.asarray(initial)))


@functools.cache
def compiled_line(name: str, kind: Any, c2: float) -> Any:
    def run(initial: jax.Array) -> Any:
        origin = jnp.zeros(1)
        value, grad = jax.value_and_grad(on_line(name))(origin)
        direction = -grad / jnp.abs(grad)
        found = search(kind, on_line(name), origin, value, grad, direction, initial, c2=c2, max_evaluations=40)
        return found, value, grad[0] * direction[0]

    return jax.jit(run)


def on_line(name: str) -> Callable[[jax.Array], jax.Array]:
    return lambda x: LINES[name](x[0])


@functools.cache
def evaluate(name: str) -> Any:
    """Value and gradient at a point, compiled on its own."""
    return jax.jit(jax.value_and_grad(on_line(name)))


@pytest.mark.parametrize("initial", [1e-3, 0.1, 1.0, 10.0, 1e3])
@pytest.mark.parametrize("name", LINES)
def test_line_search_satisfies_the_strong_wolfe_conditions(name: str, initial: float):
    found, value, slope = along(name, "strong_wolfe", initial, c2=0.1)
    assert found.success
    with jax.enable_x64(True):
        again, grad = evaluate(name)(jnp.asarray([found.step]))
    np.testing.assert_allclose([found.value, found.grad[0]], [again, grad[0]], rtol=1e-12, atol=1e-12)
    assert found.value <= value + 1e-4 * found.step * slope
    assert abs(found.grad[0]) <= 0.1 * abs(slope) * (1 + 1e-12)
    assert 1 <= found.evaluations <= 40


@pytest.mark.parametrize("initial", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("name", LINES)
def test_armijo_search_satisfies_its_condition_and_returns_the_gradient_there(name: str, initial: float):
    found, value, slope = along(name, "armijo", initial)
    assert found.success
    with jax.enable_x64(True):
        again, grad = evaluate(name)(jnp.asarray([found.step]))
    np.testing.assert_allclose([found.value, found.grad[0]], [again, grad[0]], rtol=1e-12)
    assert found.value <= value + 1e-4 * found.step * slope


@pytest.mark.parametrize("name", ["rational", "steep", "parabola", "exponential"])
@pytest.mark.parametrize("initial", [1e-3, 0.1, 1.0, 10.0])
def test_line_search_needs_no_more_evaluations_than_scipy(name: str, initial: float):
    """SciPy's search implements the same paper; conditions and first trial step are the same."""
    scipy = pytest.importorskip("scipy.optimize._dcsrch", reason="the oracle is SciPy's line search")
    found, _, _ = along(name, "strong_wolfe", initial, c2=0.1)
    with jax.enable_x64(True):
        count = 0

        def phi(t: float) -> float:
            nonlocal count
            count += 1
            return float(evaluate(name)(jnp.asarray([t]))[0])

        def slope(t: float) -> float:
            return float(evaluate(name)(jnp.asarray([t]))[1][0])

        sign = -np.sign(slope(0.0))  # of the direction
        theirs = scipy.DCSRCH(phi, lambda t: sign * slope(t), 1e-4, 0.1, 1e-14, 0.0, 1e10)
        step, _, _, _ = theirs(initial, maxiter=40)
    assert step is not None
    np.testing.assert_allclose(found.step, step, rtol=1e-6)
    assert found.evaluations <= count


@pytest.mark.parametrize("kind", ["strong_wolfe", "armijo"])
@pytest.mark.parametrize("edge", [np.nan, np.inf])
def test_line_search_backs_off_from_nonfinite_values(kind: Any, edge: float):
    def value_fn(x: jax.Array) -> jax.Array:
        return jnp.where(x[0] > 0.3, edge, (x[0] - 0.2) ** 2)

    x = jnp.zeros(1)
    value, grad = jax.value_and_grad(value_fn)(x)
    found = jax.jit(lambda: search(kind, value_fn, x, value, grad, -grad, jnp.float32(100.0)))()
    assert found.success
    assert 0 < found.step * 0.4 < 0.3
    assert found.value < value


@pytest.mark.parametrize("kind", ["strong_wolfe", "armijo"])
def test_failed_line_search_returns_a_zero_step(kind: Any):
    """The reported gradient is wrong: the function rises along the search direction."""
    value_fn = jax.custom_jvp(lambda x: jnp.sum(jnp.abs(x)))
    value_fn.defjvp(lambda primals, tangents: (jnp.sum(jnp.abs(primals[0])), -jnp.sum(tangents[0])))
    x = jnp.zeros(1)
    found = jax.jit(lambda: search(kind, value_fn, x, jnp.float32(0), -jnp.ones(1), jnp.ones(1), jnp.float32(1)))()
    assert not found.success
    assert found.step == 0
    assert found.value == 0
    np.testing.assert_array_equal(found.grad, [-1])
    assert found.evaluations <= 21


@examples(60)
@given(
    st.floats(0.1, 50),
    st.floats(-3, 3),
    st.floats(0.05, 4),
    st.floats(-6, 6),
    st.sampled_from(["strong_wolfe", "armijo"]),
)
@example(1.0, 1.5, 1.0, 0.0, "strong_wolfe")  # no slope at all: the start is as good as any point
@example(1.0, 1.5, 1.0, 0.0, "armijo")
def test_line_search_never_ends_above_the_start_value(
    curvature: float, shift: float, wave: float, exponent: float, kind: Any
):
    numbers = jnp.asarray([curvature, shift, wave, 10**exponent], jnp.float32)
    value, slope, found, after = jax.device_get(compiled_wave(kind)(numbers))
    assert found.value <= value
    size = curvature * shift**2 + 6  # of the terms of which rounding takes a part
    assert abs(after - found.value) <= 1e-6 * 4 * size  # and that is the value where the step leads
    if not found.success:
        assert found.step == 0
        assert found.value == value
    elif 1e-4 * found.step * -slope > 1e-6 * size:  # more than rounding was asked for
        assert found.value < value


@functools.cache
def compiled_wave(kind: Any) -> Any:
    def run(numbers: jax.Array) -> Any:
        curvature, shift, wave, initial = numbers

        def value_fn(x: jax.Array) -> jax.Array:
            return jnp.sum(curvature * (x - shift) ** 2 + 3 * jnp.sin(wave * x))

        x = jnp.zeros(2)
        value, grad = jax.value_and_grad(value_fn)(x)
        found = search(kind, value_fn, x, value, grad, -grad, initial)
        return value, -jnp.sum(grad**2), found, value_fn(x - found.step * grad)

    return jax.jit(run)
