"""Objectives and loops that the tests of second-order methods share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Value = Callable[[Any], jax.Array]
VALLEY_START = np.array([-1.2, 1.0])


def rosenbrock(x: jax.Array) -> jax.Array:
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


class Trace(NamedTuple):
    """A run: points, values, directional slopes of the updates, evaluations so far, and the last state."""

    points: np.ndarray
    values: np.ndarray
    slopes: np.ndarray
    evaluations: np.ndarray
    state: Any


def minimize(tx: Any, value_fn: Value, start: Any, steps: int) -> Trace:
    """Run `steps` updates of one vector in a compiled scan; call it under `jax.enable_x64` for float64."""

    def body(carry: Any, _: None) -> Any:
        x, state = carry
        value, grad = jax.value_and_grad(value_fn)(x)
        update, state = tx.update(grad, state, x, value=value, grad=grad, value_fn=value_fn)
        x = x + update
        return (x, state), (x, value_fn(x), grad @ update, jnp.asarray(getattr(state, "evaluations", 0)))

    def run(x: jax.Array) -> Any:
        (_, state), trace = jax.lax.scan(body, (x, tx.init(x)), None, length=steps)
        return *trace, state

    return Trace(*jax.device_get(jax.jit(run)(jnp.asarray(start))))


def steps_to(values: np.ndarray, target: float) -> int:
    """Return the number of updates until the value is below `target`."""
    below = np.flatnonzero(values < target)
    assert below.size, f"never below {target}; ended at {values[-1]}"
    return int(below[0]) + 1


def wavy(seed: int, size: int) -> Value:
    """A smooth function that is not convex: a bowl with waves, and a valley's product between neighbors."""
    rng = np.random.default_rng(seed)
    shape, waves, phase = rng.normal(size=(size, size)), rng.uniform(0.5, 3, size), rng.uniform(0, 6, size)

    def value(x: jax.Array) -> jax.Array:
        bowl = 0.05 * jnp.sum(jnp.square(jnp.asarray(shape, x.dtype) @ x))
        ripple = jnp.sum(jnp.cos(jnp.asarray(waves, x.dtype) * x + jnp.asarray(phase, x.dtype)))
        return bowl + 2 * ripple + 0.1 * jnp.sum(x[1:] * x[:-1] ** 2) + 0.02 * jnp.sum(x**4)

    return value


def assert_descends_from_random_starts(tx: Any, *, starts: int = 40, steps: int = 25, size: int = 5) -> None:
    """Assert in float64 that each of `starts * steps` = 1000 updates descends and never raises the value."""
    value_fn = wavy(7, size)

    def one(x: jax.Array) -> Any:
        def body(carry: Any, _: None) -> Any:
            x, state = carry
            value, grad = jax.value_and_grad(value_fn)(x)
            update, state = tx.update(grad, state, x, value=value, grad=grad, value_fn=value_fn)
            after = value_fn(x + update)
            lowest = jnp.linalg.eigvalsh(jax.hessian(value_fn)(x))[0]
            rise = after - value - 32 * jnp.finfo(float).eps * (1 + jnp.abs(value))  # rounding, which no search can see
            return (x + update, state), (grad @ update, rise, jnp.any(update != 0), lowest)

        return jax.lax.scan(body, (x, tx.init(x)), None, length=steps)[1]

    with jax.enable_x64(True):
        points = 2 * np.random.default_rng(1).normal(size=(starts, size))
        slopes, rises, moved, lowest = map(np.asarray, jax.jit(jax.vmap(one))(jnp.asarray(points)))
    assert slopes.size == starts * steps == 1000
    assert (slopes[moved] < 0).all()
    assert (rises <= 0).all(), rises.max()
    assert (lowest < 0).mean() > 0.02  # the Hessian was indefinite often enough to be a trap
    assert moved[:, :5].all()
