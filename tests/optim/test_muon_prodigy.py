"""Muon and Prodigy in float64 against loops in numpy and against optax."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxtrain.optim import muon, prodigy, soap

STEPS = 25
_rng = np.random.default_rng(2)
SHAPES = {"dense": (4, 3), "conv": (2, 1, 1, 3), "bias": (3,), "scale": ()}
START = {name: _rng.normal(size=shape) for name, shape in SHAPES.items()}
CURVATURE = {name: _rng.uniform(0.5, 3, size=shape) for name, shape in SHAPES.items()}
MIXER = {name: _rng.normal(size=(int(np.prod(s)),) * 2) / 4 for name, s in SHAPES.items()}
RULES = (("dense", 0.2), (".*", 0.0))
Path = list[dict[str, np.ndarray]]


def falling(t: Any) -> Any:
    return 0.05 * 0.95**t


def falling_schedule(t: Any) -> Any:
    return falling(jnp.asarray(t).astype(jnp.result_type(float)))


def gradient(x: Any, cos: Any) -> Any:
    """Return the gradient of x'Mx/2 + sum(c x^2 / 2 - sin x); the symmetric M couples the elements of a leaf."""
    return {
        name: CURVATURE[name] * p + ((MIXER[name] + MIXER[name].T) @ p.reshape(-1)).reshape(p.shape) - cos(p)
        for name, p in x.items()
    }


def ours(tx: optax.GradientTransformation, start: Any = START, steps: int = STEPS) -> Path:
    def body(carry: Any, _: None) -> Any:
        x, state = carry
        updates, state = tx.update(gradient(x, jnp.cos), state, x)
        x = optax.apply_updates(x, updates)
        return (x, state), x

    with jax.enable_x64(True):
        run = jax.jit(lambda x: jax.lax.scan(body, (x, tx.init(x)), None, length=steps)[1])
        path = jax.tree.map(np.asarray, run(jax.tree.map(jnp.asarray, start)))
    assert all(x.dtype == np.float64 for x in path.values())
    return [{name: x[t] for name, x in path.items()} for t in range(steps)]


def assert_same(path: Path, expected: Path, tolerance: float = 1e-11) -> None:
    for one, other in zip(path, expected, strict=True):
        for name in one:
            np.testing.assert_allclose(one[name], other[name], rtol=0, atol=tolerance)
    assert max(np.abs(expected[-1][k] - expected[0][k]).max() for k in expected[0]) > 0.05


class Adam:
    """The step of Adam for one array, without the learning rate."""

    def __init__(self, b1: float, b2: float, eps: float):
        self.b1, self.b2, self.eps = b1, b2, eps
        self.m: Any = 0.0
        self.v: Any = 0.0
        self.t = 0

    def step(self, g: np.ndarray) -> np.ndarray:
        self.t += 1
        self.m = self.b1 * self.m + (1 - self.b1) * g
        self.v = self.b2 * self.v + (1 - self.b2) * g**2
        m, v = self.m / (1 - self.b1**self.t), self.v / (1 - self.b2**self.t)
        return m / (np.sqrt(v) + self.eps)


def looped(steps: dict[str, Callable[[np.ndarray], np.ndarray]], decay: dict[str, float] | None = None) -> Path:
    """Return the path of a descent in which `steps` map each gradient to an update, with decoupled decay."""
    x, path = dict(START), []
    for t in range(STEPS):
        g = gradient(x, np.cos)
        x = {k: p - falling(t) * (steps[k](g[k]) + (decay or {}).get(k, 0.0) * p) for k, p in x.items()}
        path.append(x)
    return path


# Muon


def newton_schulz(x: np.ndarray, steps: int) -> np.ndarray:
    """Jordan et al. 2024: the quintic 3.4445 X - 4.7750 XX'X + 2.0315 (XX')^2 X, after scaling to Frobenius norm 1."""
    x = x / (np.linalg.norm(x) + 1e-8)
    for _ in range(steps):
        s = x @ x.T
        x = 3.4445 * x - 4.7750 * s @ x + 2.0315 * s @ s @ x
    return x


class Muon:
    """The step of Muon for one matrix or kernel, with the bias correction that optax has."""

    def __init__(self, momentum: float, nesterov: bool, steps: int):
        self.momentum, self.nesterov, self.steps = momentum, nesterov, steps
        self.m: Any = 0.0
        self.t = 0

    def step(self, g: np.ndarray) -> np.ndarray:
        self.t += 1
        mu = self.momentum
        self.m = mu * self.m + (1 - mu) * g
        if self.nesterov:
            mean = mu * self.m / (1 - mu ** (self.t + 1)) + (1 - mu) * g / (1 - mu**self.t)
        else:
            mean = self.m / (1 - mu**self.t)
        matrix = mean.reshape(-1, g.shape[-1])
        rows, columns = matrix.shape
        return (np.sqrt(max(1, columns / rows)) * newton_schulz(matrix, self.steps)).reshape(g.shape)


@pytest.mark.parametrize("nesterov", [True, False], ids=["nesterov", "plain"])
def test_muon_equals_numpy(nesterov: bool):
    options = {"momentum": 0.9, "nesterov": nesterov, "newton_schulz_steps": 4}
    tx = muon(falling_schedule, adam_scale=0.3, b1=0.8, b2=0.95, eps=1e-8, weight_decay=RULES, **options)
    steps: Any = {k: Muon(0.9, nesterov, 4).step for k in ("dense", "conv")}
    adams = {k: Adam(0.8, 0.95, 1e-8) for k in ("bias", "scale")}
    steps |= {k: lambda g, adam=adam: 0.3 * adam.step(g) for k, adam in adams.items()}
    assert_same(ours(tx), looped(steps, {"dense": 0.2}), 1e-9)


def test_muon_update_is_a_nearly_orthogonal_matrix():
    """All singular values of a step lie near 1, whatever those of the gradient."""
    g = {"w": jnp.asarray(_rng.normal(size=(8, 5)) * 10.0 ** np.linspace(-1, 1, 5), jnp.float32)}
    tx = muon(1.0)
    updates, _ = tx.update(g, tx.init(g), g)
    singular = np.linalg.svd(updates["w"], compute_uv=False)
    assert singular.min() > 0.3
    assert singular.max() < 1.3
    assert np.sum(np.asarray(updates["w"]) * np.asarray(g["w"])) < 0


# Prodigy


def nearer(t: Any) -> Any:
    return jnp.minimum(1.0, (jnp.asarray(t).astype(jnp.result_type(float)) + 1) / 7)


@pytest.mark.parametrize("safeguard", [False, True], ids=["plain", "safeguard"])
def test_prodigy_equals_optax(safeguard: bool):
    rate = nearer if safeguard else 1.0
    mine = prodigy(rate, initial_estimate=1e-2, estimate_factor=1.5, safeguard_warmup=safeguard, weight_decay=0.1)
    theirs = optax.contrib.prodigy(
        rate, estim_lr0=1e-2, estim_lr_coef=1.5, safeguard_warmup=safeguard, weight_decay=0.1
    )
    with jax.numpy_dtype_promotion("standard"):
        expected = ours(theirs)
    assert_same(ours(mine), expected)


def prodigy_by_hand() -> Path:
    """Mishchenko & Defazio 2024, algorithm 4, with Adam's bias correction in the rate and decay of `dense`."""
    x, path, d, r = dict(START), [], 0.01, 0.0
    m, v, s = ({k: np.zeros_like(p) for k, p in START.items()} for _ in range(3))
    for t in range(1, STEPS + 1):
        g = gradient(x, np.cos)
        rate = d * np.sqrt(1 - 0.95**t) / (1 - 0.8**t)
        keep = np.sqrt(0.95)
        r = keep * r + (1 - keep) * d * rate * sum(np.sum(g[k] * (START[k] - x[k])) for k in x)
        for k in x:
            m[k] = 0.8 * m[k] + 0.2 * d * g[k]
            v[k] = 0.95 * v[k] + 0.05 * d**2 * g[k] ** 2
            s[k] = keep * s[k] + (1 - keep) * d * rate * g[k]
        d = max(d, r / sum(np.abs(s[k]).sum() for k in s))
        decay = {"dense": 0.2}
        x = {k: x[k] - rate * (m[k] / (np.sqrt(v[k]) + d * 1e-8) + decay.get(k, 0.0) * x[k]) for k in x}
        path.append(x)
    return path


def test_prodigy_equals_numpy():
    tx = prodigy(b1=0.8, b2=0.95, initial_estimate=0.01, weight_decay=RULES)
    assert_same(ours(tx), prodigy_by_hand())


def test_prodigy_keeps_its_estimate_while_rates_and_gradients_are_zero():
    """Steps with a learning rate of 0 or gradients of 0 leave the estimate unchanged; later steps move."""
    params = {"a": jnp.ones(3, jnp.bfloat16), "b": jnp.ones(())}
    tx = prodigy(lambda t: jnp.where(t < 2, 0.0, 1.0), initial_estimate=1e-3)
    state = tx.init(params)
    for scale in (0, 1, 0, 1):
        grads = jax.tree.map(lambda p, s=scale: (s * p).astype(p.dtype), params)
        updates, state = tx.update(grads, state, params)
        assert all(np.isfinite(np.asarray(u, np.float32)).all() for u in jax.tree.leaves(updates))
    assert state.distance == np.float32(1e-3)
    assert all((np.asarray(u, np.float32) < 0).all() for u in jax.tree.leaves(updates))


def test_prodigy_estimates_the_distance_to_the_solution():
    """From 1e-6 the estimate grows to the order of the distance to the solution, here 2 in each coordinate."""
    target = {"w": 2 * jnp.sign(jnp.linspace(-1.0, 1.0, 6))}
    tx = prodigy()

    def body(carry: Any, _: None) -> Any:
        x, state = carry
        grads = jax.tree.map(lambda a, b: jnp.sign(a - b) * jnp.sqrt(jnp.abs(a - b)), x, target)
        updates, state = tx.update(grads, state, x)
        return (optax.apply_updates(x, updates), state), state.distance

    start = {"w": jnp.zeros(6)}
    (x, _), distances = jax.jit(lambda: jax.lax.scan(body, (start, tx.init(start)), None, length=400))()
    assert 0.2 < distances[-1] < 10
    assert (np.diff(distances) >= 0).all()
    assert np.abs(x["w"] - target["w"]).max() < 0.2


# What they share with SOAP


@pytest.mark.parametrize("factory", [muon, prodigy, soap])
def test_muon_prodigy_and_soap_states_can_be_donated(factory: Any):
    """No two arrays of state and parameters share a buffer."""
    params = jax.tree.map(jnp.asarray, START)
    arrays = jax.tree.leaves((params, factory(0.1).init(params)))
    assert len({x.unsafe_buffer_pointer() for x in arrays}) == len(arrays)


@pytest.mark.slow
@pytest.mark.parametrize("factory", [muon, soap])
def test_muon_and_soap_treat_convolution_kernels_as_matrices(factory: Any):
    """A kernel [H, W, I, O] gets the update of a matrix [H * W * I, O]."""
    tx = factory(falling_schedule)
    flat = {"dense": START["conv"].reshape(-1, 3)}
    tall = {"conv": START["conv"]}
    grads = jax.tree.map(lambda x: jnp.asarray(np.sin(3 * x), jnp.float32), (flat, tall))
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (flat, tall))
    results = []
    for p, g in zip(params, grads, strict=True):
        state = tx.init(p)
        for scale in (1.0, -0.5):
            updates, state = tx.update(jax.tree.map(lambda x, s=scale: s * x * x, g), state, p)
        results.append(updates)
    np.testing.assert_allclose(results[0]["dense"], results[1]["conv"].reshape(-1, 3), rtol=1e-5, atol=1e-6)
