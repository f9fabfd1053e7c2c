"""Normalization against torch, flax and numpy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxtrain.nn.batch_statistics import compute_batch_statistics
from jaxtrain.nn.normalization import BatchNorm, local_response_norm

RNG = np.random.default_rng(0)
X = RNG.normal(2, 3, size=(4, 5, 6, 3)).astype(np.float32)


def moved(layer: nn.Module, x: np.ndarray, times: int = 3) -> tuple[np.ndarray, Any]:
    """Return the last output in training, and the variables."""
    variables = layer.init(jax.random.key(0), jnp.asarray(x))
    for i in range(times):
        y, new = layer.apply(variables, jnp.asarray(x + i), mutable=["batch_stats"])
        variables = {**variables, **new}
    return np.asarray(y), variables


def test_batch_norm_equals_torch_in_training_and_evaluation() -> None:
    torch = pytest.importorskip("torch", reason="the oracle is torch's BatchNorm2d")
    theirs = torch.nn.BatchNorm2d(3, momentum=0.1)
    for i in range(3):
        expected = theirs(torch.tensor((X + i).transpose(0, 3, 1, 2)))
    ours, variables = moved(BatchNorm(train=True, decay=0.9, unbiased=True), X)
    np.testing.assert_allclose(ours, expected.detach().numpy().transpose(0, 2, 3, 1), atol=2e-6)
    np.testing.assert_allclose(variables["batch_stats"]["mean"], theirs.running_mean.numpy(), rtol=1e-5)
    np.testing.assert_allclose(variables["batch_stats"]["var"], theirs.running_var.numpy(), rtol=1e-5)
    tested = BatchNorm(train=False).apply(variables, jnp.asarray(X))
    expected = theirs.eval()(torch.tensor(X.transpose(0, 3, 1, 2))).detach().numpy()
    np.testing.assert_allclose(tested, expected.transpose(0, 2, 3, 1), atol=2e-6)


def test_batch_norm_equals_flax_in_training() -> None:
    flax = nn.BatchNorm(use_running_average=False, momentum=0.9, use_fast_variance=False)
    theirs, expected = moved(flax, X)
    ours, variables = moved(BatchNorm(train=True, decay=0.9), X)
    np.testing.assert_allclose(ours, theirs, atol=2e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), variables, expected)
    wanted = {"mean": 0.0, "var": 1.0}
    for i in range(3):
        batch = {"mean": (X + i).mean(axis=(0, 1, 2)), "var": (X + i).var(axis=(0, 1, 2))}
        wanted = {k: 0.9 * v + 0.1 * batch[k] for k, v in wanted.items()}
    for k, v in wanted.items():
        np.testing.assert_allclose(variables["batch_stats"][k], v, rtol=1e-5)


@pytest.mark.parametrize(("mean", "deviation"), [(100.0, 1.0), (100.0, 0.01), (-3000.0, 1.0)])
def test_batch_norm_is_accurate_for_a_mean_far_from_0(mean: float, deviation: float) -> None:
    """E[x^2] - E[x]^2 has no correct digit there: flax's default gives standard deviations of 0.2 to 2.7."""
    x = RNG.normal(mean, deviation, size=(64, 4, 4, 3)).astype(np.float32)
    y, _ = moved(BatchNorm(train=True, affine=False, epsilon=1e-12), x, times=1)
    wide = x.astype(np.float64)
    expected = (wide - wide.mean(axis=(0, 1, 2))) / wide.std(axis=(0, 1, 2))
    # what rounding the mean to float32 leaves
    np.testing.assert_allclose(y, expected, atol=16 * np.spacing(np.float32(abs(mean))) / deviation + 1e-5)
    np.testing.assert_allclose(y.std(axis=(0, 1, 2)), 1, rtol=1e-3)


@pytest.mark.parametrize("unbiased", [False, True])
def test_compute_batch_statistics_returns_mean_and_variance_of_batch_norm(unbiased: bool) -> None:
    class Model(nn.Module):
        @nn.compact
        def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
            return BatchNorm(train=train, decay=0.7, unbiased=unbiased, name="norm")(images)

    model = Model()
    variables = model.init(jax.random.key(0), jnp.asarray(X), train=False)
    others = {"batch_stats": variables["batch_stats"]}
    found = compute_batch_statistics(model, variables["params"], others, jnp.asarray(X), {})["norm"]
    np.testing.assert_allclose(found["mean"], X.mean(axis=(0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(found["var"], X.var(axis=(0, 1, 2), ddof=int(unbiased)), rtol=1e-5)


@pytest.mark.slow
def test_batch_norm_with_an_axis_name_joins_devices_into_one_batch() -> None:
    layer = BatchNorm(train=True, axis_name="devices", unbiased=True)
    variables = BatchNorm(train=True).init(jax.random.key(0), jnp.asarray(X))

    def run(x: jax.Array) -> Any:
        return layer.apply(variables, x, mutable=["batch_stats"])

    joined, new = jax.vmap(run, axis_name="devices")(jnp.asarray(X)[:, None])
    alone = BatchNorm(train=True, unbiased=True).apply(variables, jnp.asarray(X), mutable=["batch_stats"])
    np.testing.assert_allclose(joined[:, 0], alone[0], atol=1e-5)
    for key in ("mean", "var"):
        np.testing.assert_allclose(new["batch_stats"][key][2], alone[1]["batch_stats"][key], rtol=1e-5)


def test_batch_norm_in_bfloat16_keeps_statistics_and_parameters_in_float32() -> None:
    layer = BatchNorm(train=True)
    y, variables = moved(layer, X.astype(jnp.bfloat16), times=1)
    assert y.dtype == jnp.bfloat16
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(variables))


def test_local_response_norm_equals_the_paper_and_torch() -> None:
    x = RNG.normal(0, 20, size=(2, 3, 3, 9)).astype(np.float32)
    expected = np.empty_like(x)
    for c in range(9):
        near = x[..., max(c - 2, 0) : c + 3].astype(np.float64)
        expected[..., c] = x[..., c] / (2 + 1e-4 * np.square(near).sum(axis=-1)) ** 0.75
    found = jax.jit(local_response_norm)(x)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    torch = pytest.importorskip("torch", reason="the oracle is torch's LocalResponseNorm")
    theirs = torch.nn.LocalResponseNorm(5, 5e-4, 0.75, 2.0)
    tensor = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    y = theirs(tensor)
    np.testing.assert_allclose(found, y.detach().numpy().transpose(0, 2, 3, 1), rtol=1e-5)
    y.square().sum().backward()
    gradient = jax.jit(jax.grad(lambda x: jnp.square(local_response_norm(x)).sum()))(x)
    np.testing.assert_allclose(gradient, tensor.grad.numpy().transpose(0, 2, 3, 1), rtol=1e-4, atol=1e-4)


def test_batch_norm_backward_pass_has_two_sums_over_the_images() -> None:
    norm, x = BatchNorm(train=True), jnp.linspace(-1, 2, 2 * 3 * 3 * 4).reshape(2, 3, 3, 4)
    variables = norm.init(jax.random.key(0), x)

    def outputs(params: Any, x: jax.Array) -> jax.Array:
        y, _ = norm.apply({**variables, "params": params}, x, mutable=["batch_stats"])
        return y

    _, back = jax.vjp(outputs, variables["params"], x)
    equations = jax.make_jaxpr(back)(x).jaxpr.eqns
    assert sum(e.primitive.name == "reduce_sum" and e.invars[0].aval.ndim == 4 for e in equations) == 2
