"""Statistics of batches for given parameters, against numpy and torch's `update_bn`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given
from hypothesis import strategies as st

from jaxtrain.nn.batch_statistics import compute_batch_statistics, mean_statistics, recalibrate
from tests.conftest import examples

_rng = np.random.default_rng(0)
IMAGES = (2 + 3 * _rng.normal(size=(20, 2, 2, 1))).astype(np.float32)


class Normed(nn.Module):
    """Two normalizations: one of the pixels, one of the hidden layer after them."""

    momentum: float = 0.9

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        x = images.reshape(images.shape[0], -1)
        x = nn.BatchNorm(use_running_average=not train, momentum=self.momentum, name="bn1")(x)
        x = nn.relu(nn.Dense(3, name="fc1")(x))
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5, name="bn2")(x)
        return nn.Dense(2, name="logits")(x)


class RunningMean(nn.Module):
    """A custom module with a running mean and a counter that do not affect its output in training."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        largest = self.variable("batch_stats", "largest", jnp.ones, ())
        calls = self.variable("batch_stats", "calls", jnp.zeros, (), jnp.int32)
        if train:
            largest.value = 0.7 * largest.value + 0.3 * x.max()
            calls.value = calls.value + 1
        return x


class Partly(nn.Module):
    """A frozen normalization before a trained one, dropout, another collection, and a custom module."""

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        x = images.reshape(images.shape[0], -1)
        x = nn.BatchNorm(use_running_average=True, name="frozen")(x)
        x = nn.BatchNorm(use_running_average=not train, name="bn")(x)
        x = RunningMean(name="own")(x, train=train)
        seen = self.variable("seen", "batches", jnp.zeros, (), jnp.int32)
        seen.value = seen.value + 1
        return nn.Dropout(0.5, deterministic=not train)(x)


def initial(model: nn.Module) -> tuple[Any, Any]:
    """Parameters and variables whose running statistics are neither 0 nor 1."""
    variables = dict(model.init(jax.random.key(0), jnp.asarray(IMAGES[:1]), train=False))
    params = variables.pop("params", {})
    stats = jax.tree.map(lambda x: x + jnp.asarray(5, x.dtype), variables["batch_stats"])
    return params, {**variables, "batch_stats": stats}


def statistics(model: nn.Module, params: Any, variables: Any, images: np.ndarray) -> Any:
    rngs = {"dropout": jax.random.key(1)}
    return jax.jit(lambda p, v, x: compute_batch_statistics(model, p, v, x, rngs))(params, variables, images)


def by_hand(params: Any, images: np.ndarray) -> dict[str, Any]:
    """The forward pass in float64."""
    pixels = images.reshape(len(images), -1).astype(np.float64)
    norm, dense = params["bn1"], params["fc1"]
    x = (pixels - pixels.mean(axis=0)) / np.sqrt(pixels.var(axis=0) + 1e-5)
    x = x * np.asarray(norm["scale"], np.float64) + np.asarray(norm["bias"], np.float64)
    hidden = np.maximum(x @ np.asarray(dense["kernel"], np.float64) + np.asarray(dense["bias"], np.float64), 0)
    return {"bn1": _moments(pixels), "bn2": _moments(hidden)}


def _moments(x: np.ndarray) -> dict[str, np.ndarray]:
    return {"mean": x.mean(axis=0), "var": x.var(axis=0)}


def assert_close(ours: Any, expected: Any, rtol: float) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6), ours, expected)


@pytest.mark.quick_cases("0.9")
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99, 0.999])
def test_compute_batch_statistics_is_exact_at_any_momentum(momentum: float):
    """Momenta may differ within a model; earlier running statistics do not matter."""
    model = Normed(momentum=momentum)
    params, variables = initial(model)
    # float32 tells 1 - m to 6e-8 / (1 - m), and flax's fast variance is E x^2 - (E x)^2
    assert_close(statistics(model, params, variables, IMAGES), by_hand(params, IMAGES), 5e-6 + 6e-8 / (1 - momentum))


def test_mean_statistics_weights_batches_by_size():
    """Batches of 8, 8 and 4; in the first layer the weighted mean equals the mean over all examples."""
    model = Normed()
    params, variables = initial(model)
    batches = [IMAGES[:8], IMAGES[8:16], IMAGES[16:]]
    found = mean_statistics((statistics(model, params, variables, b) for b in batches), sizes=[8, 8, 4])
    each = [by_hand(params, b) for b in batches]
    assert_close(found, jax.tree.map(lambda *x: np.average(x, axis=0, weights=[8, 8, 4]), *each), 1e-5)
    np.testing.assert_allclose(found["bn1"]["mean"], IMAGES.reshape(20, -1).mean(axis=0), rtol=1e-5)


def test_recalibrate_gives_mean_and_variance_of_all_the_data():
    """The batches differ in size and mean; the first layer is exact, the second approximate."""
    model, images = Normed(), IMAGES + np.float32(30)
    images[:5] += 20  # so that the batches differ
    params, variables = initial(model)
    batches = [images[:8], images[8:17], images[17:]]
    found = recalibrate(model, {"params": params, **variables}, map(jnp.asarray, batches))
    assert found["params"] is params
    pixels = images.reshape(20, -1).astype(np.float64)
    assert_close(found["batch_stats"]["bn1"], _moments(pixels), 2e-5)
    each, sizes = [by_hand(params, b)["bn2"] for b in batches], [8, 9, 3]
    mean = np.average([x["mean"] for x in each], axis=0, weights=sizes)
    within = np.average([x["var"] + (x["mean"] - mean) ** 2 for x in each], axis=0, weights=sizes)
    np.testing.assert_allclose(found["batch_stats"]["bn2"]["var"], within, rtol=1e-2)
    with pytest.raises(ValueError, match="no batches"):
        recalibrate(model, {"params": params, **variables}, [])
    with pytest.raises(ValueError, match="nothing to recalibrate"):
        recalibrate(model, {"params": params}, [jnp.asarray(images)])


def test_mean_statistics_equal_torch_update_bn():
    """torch's cumulative mean, whose variance is divided by N - 1, over batches of one size."""
    torch = pytest.importorskip("torch", reason="the oracle is torch.optim.swa_utils.update_bn")
    model = Normed()
    params, variables = initial(model)
    theirs = torch.nn.Sequential(
        torch.nn.BatchNorm1d(4, momentum=None), torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.BatchNorm1d(3)
    )
    theirs[1].weight.data = torch.tensor(np.asarray(params["fc1"]["kernel"]).T.copy())
    theirs[1].bias.data = torch.tensor(np.asarray(params["fc1"]["bias"]).copy())
    batches = [IMAGES[i : i + 5] for i in range(0, 20, 5)]
    torch.optim.swa_utils.update_bn([torch.tensor(b.reshape(5, 4)) for b in batches], theirs)
    found = mean_statistics(statistics(model, params, variables, b) for b in batches)
    for name, layer in (("bn1", theirs[0]), ("bn2", theirs[3])):
        np.testing.assert_allclose(found[name]["mean"], layer.running_mean.numpy(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found[name]["var"] * 5 / 4, layer.running_var.numpy(), rtol=1e-5, atol=1e-6)


def test_compute_batch_statistics_leaves_frozen_statistics_and_counts_unchanged():
    """A frozen layer keeps its statistics, later layers use its outputs, and counters stay unchanged."""
    model = Partly()
    params, variables = initial(model)
    variables["batch_stats"]["own"]["calls"] = jnp.int32(17)
    found = statistics(model, params, variables, IMAGES)
    jax.tree.map(np.testing.assert_array_equal, found["frozen"], variables["batch_stats"]["frozen"])
    frozen = variables["batch_stats"]["frozen"]
    x = (IMAGES.reshape(20, -1) - np.asarray(frozen["mean"])) / np.sqrt(np.asarray(frozen["var"]) + 1e-5)
    assert_close(found["bn"], _moments(x.astype(np.float64)), 2e-5)
    normed = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)
    assert float(found["own"]["largest"]) == pytest.approx(normed.max(), rel=1e-5)
    assert found["own"]["calls"] == 17
    kinds = [jax.tree.map(lambda s: (s.shape, s.dtype), tree) for tree in (found, variables["batch_stats"])]
    assert kinds[0] == kinds[1]


@pytest.mark.slow
def test_evaluation_with_recomputed_batch_statistics_equals_training():
    model = Normed()
    params, variables = initial(model)
    found = statistics(model, params, variables, IMAGES)
    images = jnp.asarray(IMAGES)
    evaluated = model.apply({"params": params, "batch_stats": found}, images, train=False)
    trained, _ = model.apply({"params": params, **variables}, images, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(evaluated, trained, rtol=1e-4, atol=1e-5)


@examples(30)
@given(st.lists(st.tuples(st.floats(-100, 100, width=32), st.integers(1, 9)), min_size=1, max_size=6))
def test_mean_statistics_equal_the_mean_over_all_examples(batches: list[tuple[float, int]]):
    trees = [{"mean": jnp.float32(value)} for value, _ in batches]
    everything = np.concatenate([np.full(size, value) for value, size in batches])
    found = mean_statistics(trees, [size for _, size in batches])["mean"]
    np.testing.assert_allclose(found, everything.mean(), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(mean_statistics(trees)["mean"], np.mean([v for v, _ in batches]), rtol=1e-5, atol=1e-4)


def test_mean_statistics_refuse_no_batches_or_too_few_sizes():
    with pytest.raises(ValueError, match="no batches"):
        mean_statistics([])
    with pytest.raises(ValueError, match="shorter"):
        mean_statistics([{"mean": jnp.float32(1)}] * 2, [3])
