"""Statistics of activations against numpy, and the lecture's experiment."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxtrain import models
from jaxtrain.analysis.activation_experiment import activation_experiment
from jaxtrain.analysis.activation_statistics import activation_statistics
from jaxtrain.errors import ConfigError
from jaxtrain.nn.normalization import BatchNorm

X = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)


class Net(nn.Module):
    """A normalized layer, a layer under nn.remat and a classifier."""

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        x = nn.relu(BatchNorm(train, name="norm")(nn.Dense(6, name="first")(images)))
        x = nn.relu(nn.remat(nn.Dense)(4, name="second")(x))
        return nn.Dense(3, name="logits")(x)


def net() -> tuple[Any, dict[str, np.ndarray]]:
    """Return variables and pre-activations; two units of `second` are dead, none of `first`."""
    rng = np.random.default_rng(1)
    abstract = jax.eval_shape(lambda: Net().init(jax.random.key(0), jnp.asarray(X), train=False))
    variables = jax.tree.map(lambda x: jnp.asarray(rng.uniform(0.5, 1.5, x.shape), x.dtype), abstract)
    params: Any = variables["params"]
    params["first"]["kernel"] = jnp.asarray(rng.normal(size=(5, 6)), jnp.float32)
    params["norm"]["bias"] = jnp.zeros(6)
    params["second"]["bias"] = jnp.asarray([-1e3, 0.1, -1e3, 0.2], jnp.float32)
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), variables)
    norm, stats = p["params"]["norm"], p["batch_stats"]["norm"]
    y = X @ p["params"]["first"]["kernel"] + p["params"]["first"]["bias"]
    y = (y - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * norm["scale"] + norm["bias"]
    before = {"first": y}
    for name in ("second", "logits"):
        y = np.maximum(y, 0) @ p["params"][name]["kernel"] + p["params"][name]["bias"]
        before[name] = y
    return variables, before


def test_activation_statistics_equal_numpy() -> None:
    variables, before = net()
    found = activation_statistics(Net(), variables, X, activation="relu", bins=7)
    assert [s.layer for s in found] == ["first", "second", "logits"]
    for s in found:
        values = before[s.layer] if s.layer == "logits" else np.maximum(before[s.layer], 0)
        zero = np.zeros(values.shape, bool) if s.layer == "logits" else before[s.layer] <= 0
        assert (s.mean, s.std) == pytest.approx((values.mean(), values.std()), rel=1e-4)
        assert (s.low, s.high) == pytest.approx((values.min(), values.max()), rel=1e-4)
        assert s.saturated == pytest.approx(zero.mean())
        assert s.dead == pytest.approx(zero.all(axis=0).mean())
        assert s.counts == tuple(np.histogram(values, 7)[0])
    assert [s.dead for s in found] == [0, 0.5, 0]


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "bound"), [("tanh", np.arctanh(np.sqrt(0.99))), ("sigmoid", 4.5849675)])
def test_saturated_counts_units_with_a_slope_below_one_hundredth(activation: Any, bound: float) -> None:
    model = models.linear(num_classes=4)
    variables = {"params": {"logits": {"kernel": jnp.eye(5, 4) * 6, "bias": jnp.zeros(4)}}}
    (s,) = activation_statistics(model, variables, X, activation=activation, head_is_linear=False)
    assert s.saturated == pytest.approx((np.abs(6 * X[:, :4]) > bound).mean())
    (s,) = activation_statistics(model, variables, X, activation="identity", head_is_linear=False)
    assert (s.saturated, s.dead) == (0, 0)
    assert s.std == pytest.approx((6 * X[:, :4]).std(), rel=1e-5)


@pytest.mark.slow
def test_activation_statistics_count_image_channels_as_units() -> None:
    model = models.lenet5(num_classes=3)
    images = jnp.ones((2, 32, 32, 1))
    variables: Any = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    variables = jax.tree.map(lambda x: jnp.full(x.shape, 0.01), variables)
    variables["params"]["conv1"]["bias"] = jnp.asarray([-9.0, 1, 1, -9, 1, -9])
    found = {s.layer: s for s in activation_statistics(model, variables, images, activation="relu")}
    assert found["conv1"].dead == 0.5
    assert sum(found["conv1"].counts) == 2 * 28 * 28 * 6


def test_activation_statistics_refuse_models_without_layers_and_learned_activations() -> None:
    class Bare(nn.Module):
        @nn.compact
        def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
            return images

    with pytest.raises(ConfigError, match="Bare calls no"):
        activation_statistics(Bare(), {}, X)
    with pytest.raises(ConfigError, match="prelu learns"):
        activation_statistics(Bare(), {}, X, activation="prelu")


def deviations(inits: list[str], **options: Any) -> np.ndarray:
    found = activation_experiment(inits, **options)
    assert [outcome.init for outcome in found] == inits
    return np.array([[s.std for s in outcome.layers] for outcome in found])


LECTURE = {
    "tanh": {
        0.01 * 64: [0.492, 0.288, 0.178, 0.113, 0.072, 0.046],
        0.05 * 64: [0.872, 0.853, 0.849, 0.849, 0.850, 0.850],
        1.0: [0.627, 0.487, 0.408, 0.359, 0.324, 0.296],
    },
    "relu": {1.0: [0.58, 0.41, 0.29, 0.20, 0.14, 0.10], np.sqrt(2): [0.825] * 6},
}
"""Standard deviations of the six layers, by the kernel's standard deviation times the root of the width of 4096."""


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "tolerance"), [("tanh", 0.03), ("relu", 0.15)])
def test_activation_experiment_gives_the_numbers_of_the_lecture(activation: Any, tolerance: float) -> None:
    """With 384 units instead of 4096 and scaled deviations, the layers have the same statistics with more noise."""
    width = 384
    for scale, expected in LECTURE[activation].items():
        found = deviations([f"normal({scale / np.sqrt(width)})"], activation=activation, width=width, batch_size=256)
        np.testing.assert_allclose(found[0], expected, rtol=tolerance)


@pytest.mark.slow
def test_data_dependent_initializations_keep_the_scale_of_activations() -> None:
    inits = ["xavier", "lsuv", "within_layer", "orthogonal(1.0)", "constant(0)"]
    found = deviations(inits, activation="tanh", width=64, layers=4, batch_size=64)
    unit = np.tanh(np.random.default_rng(0).normal(size=100_000)).std()
    np.testing.assert_allclose(found[1:3], unit, rtol=0.02)
    assert found[0, 3] < 0.6 * unit
    assert found[3, 3] == pytest.approx(found[0, 3], rel=0.2)
    assert not found[4].any()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("xaver", "did you mean 'xavier'"),
        ("he(2)", "he takes no number"),
        ("normal(a)", "'a' is not a number"),
        ("normal(0.1", "unknown initialization"),
    ],
)
def test_activation_experiment_refuses_unknown_initializations(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        activation_experiment([text], width=4)


def test_lsuv_refuses_a_batch_of_one() -> None:
    with pytest.raises(ConfigError, match="lsuv: lsuv measures how outputs vary"):
        activation_experiment(["lsuv"], width=4, batch_size=1)
