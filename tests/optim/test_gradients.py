"""Transforms of gradients against numpy, torch and optax: clipping, noise, delay."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from jaxtrain.errors import ConfigError
from jaxtrain.optim import agc, clip_by_norm, clip_by_value, delay, gradient_noise, sgd
from tests.conftest import examples

_rng = np.random.default_rng(5)
SHAPES = {"conv": (2, 3, 2, 4), "dense": (5, 3), "rank3": (2, 3, 4), "bias": (4,), "scale": (), "row": (1, 5)}
GRADS = {name: _rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
PARAMS = {name: 0.1 * _rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
reals = st.floats(-1e3, 1e3, width=32, allow_subnormal=False)  # XLA takes subnormal numbers for 0


def applied(tx: Any, updates: Any, params: Any = None) -> Any:
    if params is None:
        return tx.update(updates, tx.init(updates), unheard_of=1)[0]
    return jax.jit(lambda u, p: tx.update(u, tx.init(p), p, unheard_of=1)[0])(updates, params)


def as_arrays(tree: Any) -> Any:
    return jax.tree.map(jnp.asarray, tree)


def mixed() -> Any:
    return {"a": jnp.full((2, 3), 3.0, jnp.bfloat16), "b": (jnp.full(2, -4.0), optax.MaskedNode()), "c": jnp.float32(1)}


FACTORIES = {
    "clip_by_value": lambda: clip_by_value(0.5),
    "clip_by_norm": lambda: clip_by_norm(0.5),
    "agc": agc,
    "gradient_noise": lambda: gradient_noise(seed=1),
    "delay": lambda: delay(2),
    "delay-none": lambda: delay(0),
}


@pytest.mark.parametrize("name", FACTORIES)
def test_gradient_transform_keeps_shapes_and_dtypes(name: str):
    """Updates and state keep them in a scan; the state has no empty array, which Orbax refuses."""
    tx, grads = FACTORIES[name](), mixed()

    def body(state: Any, _: None) -> Any:
        updates, state = tx.update(grads, state, grads, value=jnp.float32(0), unheard_of=1)
        return state, updates

    state, updates = jax.jit(lambda s: jax.lax.scan(body, s, None, length=3))(tx.init(grads))
    jax.tree.map(lambda u, g: np.testing.assert_equal((u.shape, u.dtype), ((3, *g.shape), g.dtype)), updates, grads)
    assert all(x.size for x in jax.tree.leaves(state))
    assert jax.tree.structure(state) == jax.tree.structure(tx.init(grads))


# Clipping


@examples(50)
@given(g=npst.arrays(np.float32, 6, elements=reals), value=st.floats(0.125, 100, width=32))
def test_clip_by_value_equals_numpy(g: np.ndarray, value: float):
    np.testing.assert_array_equal(applied(clip_by_value(value), jnp.asarray(g)), np.clip(g, -value, value))


def clipped_by_norm(grads: dict[str, np.ndarray], norm: float) -> dict[str, np.ndarray]:
    length = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in grads.values()))
    return {k: g * min(1.0, norm / length) if length else g for k, g in grads.items()}


@examples(50)
@given(
    a=npst.arrays(np.float32, (2, 2), elements=reals),
    b=npst.arrays(np.float32, 3, elements=reals),
    norm=st.floats(0.125, 1e4, width=32),
)
def test_clip_by_norm_equals_numpy(a: np.ndarray, b: np.ndarray, norm: float):
    """Zeros are included; a gradient below the limit passes bitwise unchanged."""
    grads = {"a": a, "b": b}
    out, expected = applied(clip_by_norm(norm), as_arrays(grads)), clipped_by_norm(grads, norm)
    for name in grads:
        np.testing.assert_allclose(out[name], expected[name], rtol=1e-5, atol=1e-30)
    if np.sqrt((a.astype(float) ** 2).sum() + (b.astype(float) ** 2).sum()) < norm * 0.999:
        jax.tree.map(np.testing.assert_array_equal, out, grads)


def test_clip_by_norm_equals_torch():
    torch = pytest.importorskip("torch", reason="the oracle is torch.nn.utils.clip_grad_norm_")
    parameters = []
    for g in GRADS.values():
        p = torch.zeros(g.shape, dtype=torch.float64, requires_grad=True)
        p.grad = torch.tensor(g, dtype=torch.float64)
        parameters.append(p)
    torch.nn.utils.clip_grad_norm_(parameters, 0.7)
    out = applied(clip_by_norm(0.7), as_arrays(GRADS))
    for name, p in zip(GRADS, parameters, strict=True):
        np.testing.assert_allclose(out[name], p.grad.numpy(), rtol=2e-6)


def test_clip_by_norm_sums_bfloat16_leaves_in_float32():
    """The norm of 10,000 ones is 100; in bfloat16 the sum of squares would stop growing."""
    grads = {"a": jnp.ones(10_000, jnp.bfloat16), "b": jnp.zeros(2)}
    np.testing.assert_array_equal(applied(clip_by_norm(50.0), grads)["a"].astype(jnp.float32), 0.5)


def agc_by_hand(g: np.ndarray, w: np.ndarray, clipping: float, eps: float) -> np.ndarray:
    """Brock et al. 2021, equation 3, one unit after another."""
    out = g.copy()
    units = [(..., i) for i in range(g.shape[-1])] if g.ndim > 1 else [...]
    for unit in units:
        length, most = np.linalg.norm(g[unit]), clipping * max(np.linalg.norm(w[unit]), eps)
        if length > most:
            out[unit] = g[unit] * most / length
    return out


@pytest.mark.parametrize("clipping", [0.01, 5.0, 100.0])
def test_agc_equals_numpy(clipping: float):
    out = applied(agc(clipping, eps=0.05), as_arrays(GRADS), as_arrays(PARAMS))
    for name in SHAPES:
        expected = agc_by_hand(GRADS[name], PARAMS[name], clipping, 0.05)
        np.testing.assert_allclose(out[name], expected, rtol=2e-6, err_msg=name)


def test_agc_equals_optax_except_for_single_rows_and_rank_3():
    """optax treats a kernel [1, O] as one unit, since it squeezes, and a kernel of rank 3 as I * O units."""
    theirs = optax.adaptive_grad_clip(0.3, eps=0.05)
    with jax.numpy_rank_promotion("allow"):
        expected = applied(optax.with_extra_args_support(theirs), as_arrays(GRADS), as_arrays(PARAMS))
    out = applied(agc(0.3, eps=0.05), as_arrays(GRADS), as_arrays(PARAMS))
    for name in SHAPES:
        same = np.allclose(out[name], expected[name], rtol=1e-5)
        assert same == (name not in ("row", "rank3")), name


def test_agc_excludes_parameters_by_pattern():
    out = applied(agc(1e-3, exclude="dense$|head/"), as_arrays(GRADS), as_arrays(PARAMS))
    np.testing.assert_array_equal(out["dense"], GRADS["dense"])
    assert np.abs(out["conv"]).max() < np.abs(GRADS["conv"]).max() / 10


def test_agc_handles_zero_gradients_and_zero_weights():
    """A gradient of 0 stays 0; for a weight of 0 the limit uses the norm eps."""
    params = {"w": jnp.zeros((3, 2)), "b": jnp.ones(2)}
    out = applied(agc(0.5, eps=0.1), {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}, params)
    np.testing.assert_allclose(jnp.linalg.norm(out["w"], axis=0), 0.05, rtol=1e-6)
    np.testing.assert_array_equal(out["b"], 0.0)


def test_agc_refuses_missing_parameters_and_malformed_patterns():
    with pytest.raises(ValueError, match="needs the parameters"):
        applied(agc(), as_arrays(GRADS))
    with pytest.raises(ConfigError, match="not a regular expression"):
        agc(exclude="(")


# Noise


def noise_of(seed: int, tree: Any, steps: int, state: Any = None, **options: Any) -> tuple[Any, Any]:
    """Return the noise [steps, ...] of each leaf, and the state after these steps."""
    tx = gradient_noise(seed=seed, **options)

    def body(state: Any, _: None) -> Any:
        updates, state = tx.update(tree, state)
        return state, jax.tree.map(lambda u, g: u - g, updates, tree)

    run = jax.jit(lambda s: jax.lax.scan(body, s, None, length=steps))
    state, draws = run(tx.init(tree) if state is None else state)
    return jax.tree.map(np.asarray, draws), state


def test_gradient_noise_has_the_variance_of_the_paper():
    """sigma^2 = eta / (1 + t)^gamma, by 4000 draws a step; the standard error of a variance is sqrt(2 / n) of it."""
    draws, _ = noise_of(3, {"w": jnp.zeros(4000)}, 10, eta=0.5, gamma=0.8)
    expected = 0.5 / (1 + np.arange(10.0)) ** 0.8
    np.testing.assert_allclose(draws["w"].var(axis=1), expected, rtol=5 * np.sqrt(2 / 4000))
    np.testing.assert_array_less(np.abs(draws["w"].mean(axis=1)), 5 * np.sqrt(expected / 4000))
    together = np.corrcoef(draws["w"])
    assert np.abs(together - np.eye(10)).max() < 0.1  # each step draws anew


@pytest.mark.slow
def test_gradient_noise_depends_only_on_seed_step_and_path():
    """A resumed run draws the same noise, and other parameters do not change it."""
    tree = {"a": jnp.zeros(8), "b": {"c": jnp.zeros(8)}}
    whole, _ = noise_of(7, tree, 4)
    _, halfway = noise_of(7, tree, 2)
    rest, _ = noise_of(7, tree, 2, halfway)
    np.testing.assert_array_equal(rest["a"], whole["a"][2:])
    alone, _ = noise_of(7, {"b": tree["b"]}, 4)
    np.testing.assert_array_equal(alone["b"]["c"], whole["b"]["c"])
    other, _ = noise_of(8, tree, 4)
    for one in (whole["b"]["c"], other["a"]):
        assert np.abs(np.corrcoef(one.reshape(-1), whole["a"].reshape(-1))[0, 1]) < 0.9
    assert jax.tree.leaves(halfway) == [2]  # a count, no key


# Delay


@pytest.mark.slow
@examples(25)
@given(steps=st.integers(0, 4), grads=npst.arrays(np.float32, (7, 2), elements=reals))
def test_delay_returns_the_gradients_of_earlier_steps(steps: int, grads: np.ndarray):
    tx = delay(steps)
    state, out = tx.init({"w": jnp.zeros(2)}), []
    for g in grads:
        updates, state = tx.update({"w": jnp.asarray(g)}, state)
        out.append(np.asarray(updates["w"]))
    expected = np.concatenate([np.zeros((steps, 2), np.float32), grads])[: len(grads)]
    np.testing.assert_array_equal(np.array(out), expected)


def descend(tx: optax.GradientTransformationExtraArgs) -> np.ndarray:
    def body(carry: Any, _: None) -> Any:
        x, state = carry
        updates, state = tx.update(x - jnp.sin(2 * x), state, x)
        x = optax.apply_updates(x, updates)
        return (x, state), x

    start = jnp.asarray([2.0, -1.0])
    return np.asarray(jax.jit(lambda: jax.lax.scan(body, (start, tx.init(start)), None, length=12)[1])())


@pytest.mark.slow
def test_delay_of_zero_steps_equals_the_optimizer_bitwise():
    np.testing.assert_array_equal(
        descend(optax.chain(delay(0), sgd(0.3, momentum=0.5))), descend(sgd(0.3, momentum=0.5))
    )


def test_sgd_with_delayed_gradients_equals_numpy():
    """x_t+1 = x_t - 0.3 g(x_t-2), the gradient of a worker two updates behind."""
    points = [np.array([2.0, -1.0])]
    for t in range(12):
        stale = points[t - 2] if t >= 2 else None
        points.append(points[t] - (0.3 * (stale - np.sin(2 * stale)) if stale is not None else 0))
    np.testing.assert_allclose(descend(optax.chain(delay(2), sgd(0.3))), np.array(points[1:]), atol=1e-6)
