"""LARS and LAMB in float64 against loops in numpy and against optax, on a matrix, a vector and a scalar."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxtrain.optim import lamb, lars

STEPS = 30
_rng = np.random.default_rng(1)
START = {"kernel": _rng.normal(size=(4, 3)), "bias": _rng.normal(size=3), "scale": np.array(0.7)}
CURVATURE = {"kernel": _rng.uniform(0.5, 3, size=(4, 3)), "bias": np.array([0.5, 1.0, 2.0]), "scale": np.array(1.5)}
RULES = (("kernel", 0.2), (".*", 0.0))
RATES: dict[str, tuple[Any, Callable[[int], float]]] = {
    "constant": (0.1, lambda t: 0.1),
    "decaying": (lambda t: 0.1 * 0.9 ** jnp.asarray(t).astype(jnp.result_type(float)), lambda t: 0.1 * 0.9**t),
}


def gradient(x: Any, cos: Any) -> Any:
    """Return the gradient of f(x) = sum(c x^2 / 2 - sin x)."""
    return {name: CURVATURE[name] * x[name] - cos(x[name]) for name in x}


def ours(tx: optax.GradientTransformation) -> list[dict[str, np.ndarray]]:
    def body(carry: Any, _: None) -> Any:
        x, state = carry
        updates, state = tx.update(gradient(x, jnp.cos), state, x)
        x = optax.apply_updates(x, updates)
        return (x, state), x

    with jax.enable_x64(True):
        run = jax.jit(lambda x: jax.lax.scan(body, (x, tx.init(x)), None, length=STEPS)[1])
        path = jax.tree.map(np.asarray, run(jax.tree.map(jnp.asarray, START)))
    assert all(x.dtype == np.float64 for x in path.values())
    return [{name: x[t] for name, x in path.items()} for t in range(STEPS)]


def ratio(x: np.ndarray, step: np.ndarray, coefficient: float, eps: float, excluded: bool) -> float:
    above, below = np.sqrt((x**2).sum()), np.sqrt((step**2).sum())
    return 1.0 if (excluded and x.ndim < 2) or above == 0 or below == 0 else coefficient * above / (below + eps)


def by_hand(name: str, rate: Callable[[int], float], excluded: bool, rules: bool) -> list[dict[str, np.ndarray]]:
    x = dict(START)
    v, m, s = ({k: np.zeros_like(p) for k, p in START.items()} for _ in range(3))
    path = []
    for t in range(STEPS):
        g, new = gradient(x, np.cos), {}
        for k, p in x.items():
            decay = 0.2 if rules and k == "kernel" else 0.0
            if name == "lars":
                step = g[k] + decay * p
                v[k] = 0.8 * v[k] - rate(t) * ratio(p, step, 0.02, 1e-3, excluded) * step
                new[k] = p + v[k]
            else:
                m[k] = 0.8 * m[k] + 0.2 * g[k]
                s[k] = 0.95 * s[k] + 0.05 * g[k] ** 2
                step = m[k] / (1 - 0.8 ** (t + 1)) / (np.sqrt(s[k] / (1 - 0.95 ** (t + 1))) + 1e-4) + decay * p
                new[k] = p - rate(t) * ratio(p, step, 1.0, 0.0, excluded) * step
        x = new
        path.append(x)
    return path


OPTIONS: dict[str, tuple[Any, dict[str, Any]]] = {
    "lars": (lars, {"momentum": 0.8, "trust_coefficient": 0.02, "eps": 1e-3}),
    "lamb": (lamb, {"b1": 0.8, "b2": 0.95, "eps": 1e-4}),
}


@functools.cache
def path_of(name: str, rate: str, excluded: bool, rules: bool) -> list[dict[str, np.ndarray]]:
    factory, options = OPTIONS[name]
    decay = RULES if rules else 0.0
    return ours(factory(RATES[rate][0], exclude_vectors=excluded, weight_decay=decay, **options))


def assert_same(path: list[dict[str, np.ndarray]], expected: list[dict[str, np.ndarray]]) -> None:
    for one, other in zip(path, expected, strict=True):
        for name in one:
            np.testing.assert_allclose(one[name], other[name], rtol=0, atol=1e-12)
    assert max(np.abs(expected[-1][k] - START[k]).max() for k in START) > 0.05  # there was something to get wrong


@pytest.mark.quick_cases("*-decay-decaying")
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("rules", [False, True], ids=["plain", "decay"])
@pytest.mark.parametrize("name", OPTIONS)
def test_lars_and_lamb_equal_numpy(name: str, rate: str, rules: bool):
    assert_same(path_of(name, rate, rules, rules), by_hand(name, RATES[rate][1], excluded=rules, rules=rules))


def test_lars_equals_optax():
    theirs = optax.lars(
        RATES["decaying"][0], momentum=0.8, trust_coefficient=0.02, eps=1e-3, trust_ratio_mask=True, weight_decay=0.0
    )
    assert_same(path_of("lars", "decaying", False, False), ours(theirs))


def test_lamb_equals_optax():
    with jax.numpy_dtype_promotion("standard"):
        theirs = ours(optax.lamb(0.1, b1=0.8, b2=0.95, eps=1e-4))
    assert_same(path_of("lamb", "constant", False, False), theirs)


def test_lamb_updates_excluded_vectors_as_adam_does():
    """Excluded parameters are updated without a trust ratio: by momentum in LARS, by Adam in LAMB."""
    with jax.numpy_dtype_promotion("standard"):
        adam = ours(optax.adam(0.1, b1=0.8, b2=0.95, eps=1e-4))
    ours_ = path_of("lamb", "constant", True, True)
    for name in ("bias", "scale"):
        np.testing.assert_allclose([p[name] for p in ours_], [p[name] for p in adam], rtol=0, atol=1e-12)
    assert np.abs(ours_[-1]["kernel"] - adam[-1]["kernel"]).max() > 1e-3


@pytest.mark.parametrize("factory", [lars, lamb])
def test_trust_ratio_is_1_for_zero_parameters_or_gradients(factory: Any):
    """The ratio is 1 where a norm is 0, so that a kernel that begins at 0 moves."""
    tx = factory(0.5)
    params = {"zero": jnp.zeros((2, 2)), "flat": jnp.ones((2, 2))}
    grads = {"zero": jnp.ones((2, 2)), "flat": jnp.zeros((2, 2))}
    updates, _ = tx.update(grads, tx.init(params), params)
    np.testing.assert_allclose(updates["zero"], -0.5, rtol=1e-5)
    np.testing.assert_array_equal(updates["flat"], 0.0)


@pytest.mark.slow
def test_lamb_step_of_a_layer_is_proportional_to_its_norm():
    """One step of LAMB moves each matrix by the rate times its norm, whatever the scale of its gradient."""
    tx = lamb(0.01)
    params = {"a": jnp.full((3, 4), 2.0), "b": jnp.full((2, 2), 100.0)}
    grads = {"a": jnp.linspace(1.0, 9.0, 12).reshape(3, 4), "b": jnp.full((2, 2), 1e-3)}
    updates, _ = tx.update(grads, tx.init(params), params)
    for name, p in params.items():
        np.testing.assert_allclose(jnp.linalg.norm(updates[name]), 0.01 * jnp.linalg.norm(p), rtol=1e-4)
