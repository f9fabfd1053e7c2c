"""Stochastic depth and drop-path against enumeration, maxout and activations against their definitions."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrain.nn.activations import PReLU, activation, leaky_relu, maxout
from jaxtrain.nn.fractal_join import draw_local_paths, fractal_join_given, global_paths, local_paths_given
from jaxtrain.nn.stochastic_depth import StochasticDepth, linear_survival, stochastic_depth_given

X = np.random.default_rng(0).normal(size=(6, 2, 2, 3)).astype(np.float32)


@pytest.mark.parametrize("scaling", ["at_test", "in_training"])
def test_stochastic_depth_mean_over_draws_equals_the_test_output(scaling: str) -> None:
    survival = 0.8
    tested = StochasticDepth(train=False, survival=survival, scaling=scaling).apply({}, jnp.asarray(X))
    branches = [stochastic_depth_given(jnp.asarray(here), jnp.asarray(X), survival, scaling) for here in (True, False)]
    mean = survival * branches[0] + (1 - survival) * branches[1]
    np.testing.assert_allclose(mean, tested, rtol=1e-6)


@pytest.mark.quick_cases("True")
@pytest.mark.parametrize("per_example", [False, True])
def test_stochastic_depth_keeps_or_drops_whole_branches(per_example: bool) -> None:
    layer = StochasticDepth(train=True, survival=0.5, per_example=per_example)
    run = jax.jit(lambda key: layer.apply({}, jnp.ones((6, 2)), rngs={"dropout": key}))
    draws = np.stack([run(jax.random.key(i))[:, 0] for i in range(200)])
    assert set(np.unique(draws)) == {0, 1}
    assert (draws == draws[:, :1]).all() != per_example
    # 200 draws at least: six standard deviations, a chance of 2e-9 for a right one
    assert abs(draws[:, 0].mean() - 0.5) < 6 * 0.5 / np.sqrt(200)
    np.testing.assert_array_equal(run(jax.random.key(3)), run(jax.random.key(3)))


def test_linear_survival_falls_linearly_to_the_last_block() -> None:
    assert [linear_survival(block, 4, 0.5) for block in (1, 2, 3, 4)] == [0.875, 0.75, 0.625, 0.5]
    assert linear_survival(3, 4, 1.0) == 1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_fractal_join_is_the_mean_of_the_present_inputs(count: int) -> None:
    columns = np.random.default_rng(1).normal(size=(count, 2, 3)).astype(np.float32)
    for present in itertools.product([False, True], repeat=count):
        if any(present):
            found = fractal_join_given(jnp.asarray(present), [jnp.asarray(x) for x in columns])
            np.testing.assert_allclose(found, columns[list(present)].mean(axis=0), rtol=1e-6)


def test_local_drop_path_has_the_probabilities_of_the_paper() -> None:
    """For two inputs at rate 1/2: both 1/4, each alone 3/8; a draw without inputs keeps a random one."""
    keys = jax.random.split(jax.random.key(0), 4000)
    draws = np.asarray(jax.jit(jax.vmap(lambda k: draw_local_paths(k, 2, 0.5)))(keys))
    assert draws.any(axis=1).all()
    shares = [np.mean(draws.all(axis=1)), np.mean(draws[:, 0] & ~draws[:, 1]), np.mean(draws[:, 1] & ~draws[:, 0])]
    np.testing.assert_allclose(shares, [1 / 4, 3 / 8, 3 / 8], atol=6 * 0.5 / np.sqrt(4000))


@pytest.mark.parametrize(("count", "rate"), [(2, 0.15), (3, 0.15), (3, 0.6)])
def test_fractal_join_mean_over_all_local_paths_is_the_plain_mean(count: int, rate: float) -> None:
    """Every mask and fallback input is enumerated with its probability; at least one input is always present."""
    columns = np.random.default_rng(4).normal(size=(count, 5)).astype(np.float32)
    inputs = [jnp.asarray(x) for x in columns]
    mean, total = np.zeros(5), 0.0
    for gates in itertools.product([False, True], repeat=count):
        for last in range(count):
            present = local_paths_given(jnp.array(gates), jnp.int32(last))
            assert np.asarray(present).any()
            np.testing.assert_array_equal(present, gates if any(gates) else np.arange(count) == last)
            probability = np.where(gates, 1 - rate, rate).prod() / count
            mean, total = mean + probability * np.asarray(fractal_join_given(present, inputs)), total + probability
    np.testing.assert_allclose(total, 1, rtol=1e-12)
    np.testing.assert_allclose(mean, columns.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        fractal_join_given(jnp.ones(count, bool), inputs), columns.mean(axis=0), rtol=1e-6, atol=1e-7
    )


@pytest.mark.slow
def test_dropped_branches_get_zero_gradients() -> None:
    present = jnp.array([True, False, True])
    (gradient,) = jax.vjp(lambda x: fractal_join_given(present, list(x)), jnp.ones((3, 4)))[1](jnp.ones(4))
    np.testing.assert_array_equal(gradient, np.array([[0.5], [0], [0.5]]) * np.ones((3, 4)))
    here = jnp.array([True, False, False, True, True, False])
    (gradient,) = jax.vjp(lambda x: stochastic_depth_given(here, x, 0.8, "in_training"), jnp.asarray(X))[1](
        jnp.ones_like(X)
    )
    np.testing.assert_allclose(gradient, np.where(here, 1 / 0.8, 0).reshape(6, 1, 1, 1) * np.ones_like(X), rtol=1e-6)
    assert not np.asarray(gradient)[~np.asarray(here)].any()


def test_stochastic_depth_per_example_equals_timm_drop_path() -> None:
    """timm's DropPath: x times a mask that is Bernoulli(keep), divided by keep."""
    here, keep = np.array([1, 0, 1, 1, 0, 1], np.float32), np.float32(0.7)
    expected = X * (here / keep).reshape(6, 1, 1, 1)
    found = stochastic_depth_given(jnp.asarray(here, bool), jnp.asarray(X), 0.7, "in_training")
    np.testing.assert_allclose(found, expected, rtol=3e-7)


def test_stochastic_depth_with_survival_0_gives_0() -> None:
    for scaling in ("at_test", "in_training"):
        layer = StochasticDepth(train=True, survival=0.0, scaling=scaling)
        assert not np.asarray(layer.apply({}, jnp.asarray(X), rngs={"dropout": jax.random.key(0)})).any()


def test_stochastic_depth_net_mean_over_all_subnets_equals_the_test_output() -> None:
    """Ten blocks x + a_l x that decay linearly to 1/2: 1,024 subnets with their probabilities."""
    slopes = np.random.default_rng(5).normal(size=10) / 4
    survivals = [linear_survival(block, 10, 0.5) for block in range(1, 11)]
    gates = np.array(list(itertools.product([False, True], repeat=10)))
    with jax.enable_x64(True):
        x = tested = jnp.ones((1024, 1))
        for gate, slope, survival in zip(gates.T, slopes, survivals, strict=True):
            x = x + stochastic_depth_given(jnp.asarray(gate), slope * x, survival)
            tested = tested + StochasticDepth(train=False, survival=survival).apply({}, slope * tested)
    probabilities = np.where(gates, survivals, 1 - np.array(survivals)).prod(axis=1)
    np.testing.assert_allclose(probabilities @ np.asarray(x)[:, 0], np.asarray(tested)[0, 0], rtol=1e-12)


def test_global_drop_path_selects_one_column() -> None:
    np.testing.assert_array_equal(global_paths(jnp.int32(2), [1, 2]), [False, True])
    np.testing.assert_array_equal(global_paths(jnp.int32(0), [1, 2]), [True, True])


def test_maxout_returns_the_largest_of_its_pieces() -> None:
    x = np.random.default_rng(2).normal(size=(4, 12)).astype(np.float32)
    expected = np.maximum(np.maximum(x[:, 0::3], x[:, 1::3]), x[:, 2::3])
    np.testing.assert_array_equal(maxout(jnp.asarray(x), 3), expected)
    # its special cases: w2 = 0 is a ReLU, w2 = 0.01 w1 a leaky one
    pieces = np.stack([x, 0 * x], axis=-1).reshape(4, -1), np.stack([x, np.float32(0.01) * x], axis=-1).reshape(4, -1)
    np.testing.assert_array_equal(maxout(jnp.asarray(pieces[0]), 2), np.maximum(x, 0))
    np.testing.assert_allclose(maxout(jnp.asarray(pieces[1]), 2), leaky_relu(jnp.asarray(x)), rtol=1e-6)
    with pytest.raises(ValueError, match="12 channels cannot be divided into groups of 5"):
        maxout(jnp.asarray(x), 5)


TORCH = {
    "relu": "relu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "elu": "nn.functional.elu",
    "gelu": "nn.functional.gelu",
    "silu": "nn.functional.silu",
    "leaky_relu": "nn.functional.leaky_relu",
}


@pytest.mark.parametrize("name", TORCH)
def test_activation_equals_torch(name: str) -> None:
    torch = pytest.importorskip("torch", reason="the oracle is torch")
    function = torch
    for part in TORCH[name].split("."):
        function = getattr(function, part)
    x = np.linspace(-12, 12, 241, dtype=np.float32)
    np.testing.assert_allclose(activation(name)(jnp.asarray(x)), function(torch.tensor(x)), rtol=2e-6, atol=2e-6)


def test_scaled_tanh_keeps_1_and_prelu_has_one_slope_per_channel() -> None:
    np.testing.assert_allclose(activation("scaled_tanh")(jnp.array([-1.0, 0, 1])), [-1, 0, 1], atol=2e-5)
    x = np.random.default_rng(3).normal(size=(5, 4)).astype(np.float32)
    layer = PReLU()
    variables = layer.init(jax.random.key(0), jnp.asarray(x))
    np.testing.assert_array_equal(variables["params"]["slope"], np.full(4, 0.25))
    slopes = np.array([-1, 0, 0.5, 2], np.float32)
    found = layer.apply({"params": {"slope": jnp.asarray(slopes)}}, jnp.asarray(x))
    np.testing.assert_allclose(found, np.where(x > 0, x, slopes * x), rtol=1e-6)
