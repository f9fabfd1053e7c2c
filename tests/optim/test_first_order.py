"""First-order rules in float64 against torch and against loops in numpy, and the contract of every optimizer.

The trajectories minimize f(x) = x'Hx / 2 + sum(cos x), whose gradient is Hx - sin x.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxtrain.optim import OPTIMIZERS

STEPS = 100
_rng = np.random.default_rng(0)
_q = np.linalg.qr(_rng.normal(size=(6, 6)))[0]
H = _q @ np.diag([0.5, 1.0, 2.0, 3.0, 5.0, 8.0]) @ _q.T
START = 3 * _rng.normal(size=6)

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("sgd", {}),
    "sgd-decay": ("sgd", {"weight_decay": 0.1}),
    "momentum": ("sgd", {"momentum": 0.9}),
    "momentum-decay": ("sgd", {"momentum": 0.9, "weight_decay": 0.1}),
    "nesterov": ("sgd", {"momentum": 0.9, "nesterov": True}),
    "nesterov-decay": ("sgd", {"momentum": 0.8, "nesterov": True, "weight_decay": 0.05}),
    "adam": ("adam", {}),
    "adam-options": ("adam", {"b1": 0.8, "b2": 0.95, "eps": 1e-3}),
    "adamw": ("adamw", {}),
    "adamw-options": ("adamw", {"b1": 0.8, "b2": 0.95, "eps": 1e-3, "weight_decay": 0.3}),
}


def decaying(t: Any) -> Any:
    return 0.05 * 0.97**t


RATES: dict[str, tuple[Any, Callable[[int], float]]] = {
    "constant": (0.05, lambda t: 0.05),
    "decaying": (lambda t: decaying(jnp.asarray(t).astype(jnp.result_type(float))), decaying),
}


def ours(name: str, options: dict[str, Any], rate: Any) -> np.ndarray:
    with jax.enable_x64(True):
        tx = OPTIMIZERS.create(name, learning_rate=rate, **options)

        def body(carry: Any, _: None) -> Any:
            x, state = carry
            updates, state = tx.update(jnp.asarray(H) @ x - jnp.sin(x), state, x)
            x = optax.apply_updates(x, updates)
            return (x, state), x

        run = jax.jit(lambda x: jax.lax.scan(body, (x, tx.init(x)), None, length=STEPS)[1])
        result = np.asarray(run(START))
    assert result.dtype == np.float64
    return result


def by_hand(name: str, options: dict[str, Any], rate: Callable[[int], float]) -> np.ndarray:
    """The rules as their papers have them, written out."""
    x, v, m, s = START.copy(), np.zeros(6), np.zeros(6), np.zeros(6)
    b1, b2, eps = options.get("b1", 0.9), options.get("b2", 0.999), options.get("eps", 1e-8)
    decay = options.get("weight_decay", 0.01 if name == "adamw" else 0.0)
    path = []
    for t in range(STEPS):
        g = H @ x - np.sin(x)
        if name == "sgd":
            g = g + decay * x
            v = options.get("momentum", 0) * v + g
            step = g + options["momentum"] * v if options.get("nesterov") else v
        else:
            m = b1 * m + (1 - b1) * g
            s = b2 * s + (1 - b2) * g**2
            step = m / (1 - b1 ** (t + 1)) / (np.sqrt(s / (1 - b2 ** (t + 1))) + eps)
            step = step + decay * x
        x = x - rate(t) * step
        path.append(x)
    return np.array(path)


def by_torch(torch: Any, name: str, options: dict[str, Any], rate: Callable[[int], float]) -> np.ndarray:
    x = torch.tensor(START, requires_grad=True)
    h = torch.tensor(H)
    renamed = {k: v for k, v in options.items() if k not in ("b1", "b2")}
    if name != "sgd":
        renamed["betas"] = (options.get("b1", 0.9), options.get("b2", 0.999))
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    tx = kind([x], lr=rate(0), **renamed)
    path = []
    for t in range(STEPS):
        tx.param_groups[0]["lr"] = rate(t)
        tx.zero_grad()
        (x @ h @ x / 2 + torch.cos(x).sum()).backward()
        tx.step()
        path.append(x.detach().numpy().copy())
    return np.array(path)


def assert_same_path(actual: np.ndarray, expected: np.ndarray) -> None:
    # 100 steps of a contraction add up rounding errors of 1e-16 to some 1e-14; 1e-12 of the largest coordinate
    scale = np.abs(expected).max(axis=1, keepdims=True)
    assert (np.abs(actual - expected) / scale).max() < 1e-12
    assert np.abs(expected[-1] - expected[0]).max() > 0.1  # there was something to get wrong


@functools.cache
def our_path(case: str, rate: str) -> np.ndarray:
    name, options = CASES[case]
    return ours(name, options, RATES[rate][0])


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("case", CASES)
def test_trajectory_equals_numpy(case: str, rate: str):
    name, options = CASES[case]
    assert_same_path(our_path(case, rate), by_hand(name, options, RATES[rate][1]))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("case", CASES)
def test_trajectory_equals_torch(case: str, rate: str):
    """torch's Nesterov is compared at each step's own rate: under a schedule it is not the look-ahead form."""
    torch = pytest.importorskip("torch", reason="the oracle is torch.optim")
    name, options = CASES[case]
    assert_same_path(our_path(case, rate), by_torch(torch, name, options, RATES[rate][1]))


def test_nesterov_at_a_constant_rate_is_the_look_ahead_form():
    """Sutskever et al. 2013: the gradient at x + mu v; our x is their x + mu v."""
    mu, rate = 0.9, 0.05
    x, v, path = START.copy(), np.zeros(6), []
    for _ in range(STEPS):
        ahead = x + mu * v
        v = mu * v - rate * (H @ ahead - np.sin(ahead))
        x = x + v
        path.append(x + mu * v)
    assert_same_path(ours("sgd", {"momentum": mu, "nesterov": True}, rate), np.array(path))


def test_nesterov_without_momentum_is_refused():
    with pytest.raises(ValueError, match="momentum"):
        OPTIMIZERS.create("sgd", learning_rate=0.1, nesterov=True)


# The contract: every row, at its defaults.


def create(name: str, **options: Any) -> optax.GradientTransformationExtraArgs:
    parameters = OPTIMIZERS[name].parameters()
    return OPTIMIZERS.create(name, **({"learning_rate": 0.1} if "learning_rate" in parameters else {}), **options)


def quadratic(params: Any) -> jax.Array:
    return sum(jnp.sum(jnp.square(x.astype(jnp.float32))) for x in jax.tree.leaves(params)) / 2


def mixed_params() -> Any:
    return {"a": {"kernel": jnp.ones((2, 3))}, "b": (jnp.ones(4, jnp.bfloat16), jnp.ones(()))}


def updated(tx: optax.GradientTransformationExtraArgs, params: Any, state: Any) -> tuple[Any, Any]:
    """A step with every extra argument that the training step gives."""
    value, grads = jax.value_and_grad(quadratic)(params)
    updates, state = tx.update(grads, state, params, value=value, grad=grads, value_fn=quadratic)
    return updates, state


def kinds(tree: Any) -> Any:
    return jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x)), tree)


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_contract_of_every_optimizer(name: str):
    """Shapes and dtypes are kept, the state's structure is stable, it works inside jit, and it descends."""
    tx = create(name)
    assert isinstance(tx, optax.GradientTransformationExtraArgs)
    assert next(iter(inspect.signature(tx.update).parameters)) == "updates"
    params = mixed_params()
    state = tx.init(params)
    step = jax.jit(lambda p, s: updated(tx, p, s))
    updates, after = step(params, state)
    assert kinds(updates) == kinds(params)
    assert kinds(after) == kinds(state)
    for _ in range(30):
        updates, state = step(params, state)
        params = optax.apply_updates(params, updates)
    assert step._cache_size() == 1
    assert quadratic(params) < quadratic(mixed_params()) / 4


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_every_optimizer_works_in_a_chain(name: str):
    params = mixed_params()
    with jax.numpy_dtype_promotion("standard"):  # optax's norm adds up leaves of several dtypes
        alone, halved = create(name), optax.chain(create(name), optax.scale(0.5))
        plain, _ = updated(alone, params, alone.init(params))
        scaled, _ = updated(halved, params, halved.init(params))
        clipped = optax.chain(optax.clip_by_global_norm(1e-30), create(name))
        updated(clipped, params, clipped.init(params))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(0.5 * a, b), plain, scaled)


def injected(name: str, static: bool) -> Any:
    factory = OPTIMIZERS[name].load()
    others = tuple(p for p in OPTIMIZERS[name].parameters() if p != "learning_rate")
    tx = optax.inject_hyperparams(factory, static_args=others if static else ())(learning_rate=0.1)
    params = mixed_params()
    with jax.numpy_dtype_promotion("standard"):  # optax's own conversions, whatever is inside
        step = jax.jit(lambda p, s: updated(tx, p, s))
        state = tx.init(params)
        before, state = step(params, state)
        state.hyperparams["learning_rate"] = jnp.zeros_like(state.hyperparams["learning_rate"])
        after, _ = step(params, state)
    return before, after


def assert_injected(before: Any, after: Any) -> None:
    """A rate of 0.1 descends from 1; a rate that was set to 0 in the state stands still."""
    assert all(np.all(np.asarray(x, np.float32) < 0) for x in jax.tree.leaves(before))
    assert not any(np.any(np.asarray(x, np.float32)) for x in jax.tree.leaves(after))


WITH_RATE = [n for n in OPTIMIZERS.names() if "learning_rate" in OPTIMIZERS[n].parameters()]


@pytest.mark.parametrize("name", WITH_RATE)
def test_the_learning_rate_can_be_injected(name: str):
    assert_injected(*injected(name, static=True))


@pytest.mark.parametrize("name", WITH_RATE)
def test_all_numeric_options_can_be_injected(name: str):
    """`optax.inject_hyperparams(factory)(learning_rate=...)`, as optax's documents have it, takes the defaults too."""
    assert_injected(*injected(name, static=False))
