"""DropConnect against numpy for fixed masks, against all masks of 12 weights and biases, and against sampling."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrain.models import mlp
from jaxtrain.nn.activations import Activation
from jaxtrain.nn.dropconnect import (
    DropConnect,
    dropconnect,
    dropconnect_given,
    dropconnect_moments,
    mean_activation,
    mean_activation_given,
)

RNG = np.random.default_rng(0)
X, KERNEL, BIAS = (RNG.normal(size=s).astype(np.float32) for s in ((6, 5), (5, 7), (7,)))


@pytest.mark.slow
def test_dropconnect_masks_weights_and_gradients_by_example() -> None:
    kept, bias_kept = RNG.random((6, 5, 7)) < 0.5, RNG.random((6, 7)) < 0.5
    masks = jnp.asarray(kept), jnp.asarray(bias_kept)
    found, back = jax.vjp(lambda *a: dropconnect_given(*masks, *a), *map(jnp.asarray, (X, KERNEL, BIAS)))
    expected = np.einsum("ni,nio->no", X, kept * KERNEL) + bias_kept * BIAS
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    g = RNG.normal(size=found.shape).astype(np.float32)
    of_x, of_kernel, of_bias = back(jnp.asarray(g))
    np.testing.assert_allclose(of_x, np.einsum("no,nio->ni", g, kept * KERNEL), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(of_kernel, np.einsum("ni,nio,no->io", X, kept, g), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(of_bias, (g * bias_kept).sum(axis=0), rtol=1e-5, atol=1e-6)
    never = jnp.zeros((6, 5, 7), bool), jnp.zeros((6, 7), bool)
    gradients = jax.grad(lambda *a: dropconnect_given(*never, *a).sum(), (0, 1, 2))(X, KERNEL, BIAS)
    assert not any(np.asarray(x).any() for x in gradients)


def test_dropconnect_moments_equal_those_over_all_masks() -> None:
    """Three inputs, three outputs: 9 weights and 3 biases, 4,096 masks with their probabilities."""
    rate = 0.4
    with jax.enable_x64(True):
        x, kernel, bias = (jnp.asarray(RNG.normal(size=s)) for s in ((1, 3), (3, 3), (3,)))
        gates = np.array(list(itertools.product([False, True], repeat=12)))
        outputs = np.asarray(
            dropconnect_given(
                jnp.asarray(gates[:, :9].reshape(-1, 3, 3)),
                jnp.asarray(gates[:, 9:]),
                jnp.broadcast_to(x, (4096, 3)),
                kernel,
                bias,
            )
        )
        mean, variance = dropconnect_moments(x, kernel, bias, rate)
    probabilities = np.where(gates, 1 - rate, rate).prod(axis=1)
    np.testing.assert_allclose(probabilities @ outputs, mean[0], rtol=1e-12)
    np.testing.assert_allclose(probabilities @ outputs**2 - (probabilities @ outputs) ** 2, variance[0], rtol=1e-12)


@pytest.mark.slow
def test_dropconnect_masks_are_independent_of_at_a_time_and_batch_size() -> None:
    key, ones = jax.random.key(1), jnp.ones((6, 5))
    counting = jnp.asarray(2.0 ** np.arange(5, dtype=np.float32)[:, None] * np.ones((1, 7), np.float32))
    run = lambda x, some: dropconnect(key, x, counting, jnp.full(7, 32.0), 0.5, at_a_time=some)  # noqa: E731
    whole = np.asarray(run(ones, None))  # the binary digits show which weights and biases were kept
    assert len(np.unique(whole)) > 12
    for some in (3, 100):
        np.testing.assert_array_equal(run(ones, some), whole)
    np.testing.assert_array_equal(run(ones[:2], 3), whole[:2])
    bits = (whole.astype(int)[..., None] >> np.arange(6)) & 1
    assert bits.shape == (6, 7, 6)
    assert bits.any(axis=(0, 1)).all()
    assert not bits.all(axis=(0, 1)).any()


def test_dropconnect_keeps_weights_with_probability_1_minus_rate() -> None:
    """64 x 50 x 41 gates: six standard deviations, a chance of 2e-9 for a right one."""
    ones = jnp.ones((64, 40)), jnp.ones((40, 50)), jnp.ones(50)
    share = float(dropconnect(jax.random.key(2), *ones, 0.2).mean()) / 41
    assert abs(share - 0.8) < 6 * math.sqrt(0.2 * 0.8 / (64 * 50 * 41))


@pytest.mark.slow
def test_dropconnect_gradients_are_independent_of_at_a_time() -> None:
    def gradients(some: int | None) -> list[np.ndarray]:
        run = lambda *a: jnp.square(dropconnect(jax.random.key(3), *a, 0.5, at_a_time=some)).sum()  # noqa: E731
        return list(map(np.asarray, jax.jit(jax.grad(run, (0, 1, 2)))(X, KERNEL, BIAS)))

    for whole, part in zip(gradients(None), gradients(3), strict=True):
        np.testing.assert_allclose(part, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_mean_activation_of_a_relu_equals_numerical_integration() -> None:
    """The oracle is a fine Riemann sum over the density; at a variance of 0 the result is the ReLU itself."""
    mean, deviation = np.meshgrid(np.linspace(-3, 3, 7), [0.3, 1.0, 2.5])
    with jax.enable_x64(True):
        found = mean_activation(jnp.asarray(mean), jnp.asarray(deviation**2), "relu")
        z = np.linspace(-12, 12, 200_001)
        density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
        for m, s, value in zip(mean.ravel(), deviation.ravel(), np.asarray(found).ravel(), strict=True):
            np.testing.assert_allclose(value, np.maximum(m + s * z, 0) @ density, rtol=1e-8, atol=1e-9)
    flat = jnp.array([[-2.0, 0.0, 3.0]])
    value, gradient = jax.value_and_grad(lambda m: mean_activation(m, jnp.zeros((1, 3)), "relu").sum())(flat)
    np.testing.assert_allclose(value, 3, rtol=1e-6)
    assert np.isfinite(gradient).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["relu", "tanh", "identity", "scaled_tanh"])
def test_sampled_mean_activation_converges_to_the_closed_form(name: Activation) -> None:
    """20,000 samples, six standard deviations of what each gives."""
    mean, variance = jnp.array([[-1.0, 0.5, 2.0]]), jnp.array([[0.5, 1.0, 4.0]])
    noise = jnp.asarray(RNG.normal(size=(20_000, 1, 3)), jnp.float32)
    sampled = mean_activation_given(noise, mean, variance, name)
    spread = 3 if name == "relu" or name == "identity" else 1.8
    np.testing.assert_allclose(sampled, mean_activation(mean, variance, name), atol=6 * spread / math.sqrt(20_000))


@pytest.mark.slow
def test_dropconnect_moments_at_test_are_more_accurate_than_the_mean() -> None:
    layer = {kind: DropConnect(False, 7, 0.5, "relu", kind) for kind in ("mean", "moments")}
    x = jnp.asarray(RNG.normal(size=(3, 40)), jnp.float32)
    variables = layer["mean"].init(jax.random.key(4), x)
    kernel = np.asarray(variables["params"]["kernel"])
    found = {kind: np.asarray(module.apply(variables, x)) for kind, module in layer.items()}
    np.testing.assert_allclose(found["mean"], np.maximum(0.5 * (x @ kernel), 0), rtol=1e-5, atol=1e-6)
    keys = jax.random.split(jax.random.key(5), 4000)
    train = DropConnect(True, 7, 0.5, "relu")
    drawn = jax.jit(lambda keys: jax.lax.map(lambda k: train.apply(variables, x, rngs={"dropout": k}), keys))(keys)
    drawn = np.asarray(drawn)
    error = {kind: np.abs(value - drawn.mean(axis=0)).mean() for kind, value in found.items()}
    assert error["moments"] < 0.02 < 0.05 < error["mean"]  # a deviation of 0.5 / sqrt(4000) = 0.008 at most


@pytest.mark.slow
def test_mlp_with_dropconnect_keeps_the_parameters_of_a_plain_mlp() -> None:
    images = jnp.asarray(RNG.normal(size=(4, 3, 3, 1)), jnp.float32)
    plain, dropped, moments = (
        mlp(num_classes=3, widths=(8,), **options)
        for options in ({}, {"dropconnect_rate": 0.5}, {"dropconnect_rate": 0.5, "dropconnect_test": "moments"})
    )
    variables = plain.init(jax.random.key(6), images, train=False)
    jax.tree.map(np.testing.assert_array_equal, dropped.init(jax.random.key(6), images, train=False), variables)
    halved = jax.tree.map(lambda x: x, variables)
    halved["params"]["fc1"] = jax.tree.map(lambda x: x / 2, variables["params"]["fc1"])
    tested = dropped.apply(variables, images, train=False)
    np.testing.assert_allclose(tested, plain.apply(halved, images, train=False), rtol=1e-5, atol=1e-6)
    assert not np.allclose(tested, moments.apply(variables, images, train=False), atol=1e-3)
    a, b = (dropped.apply(variables, images, train=True, rngs={"dropout": jax.random.key(k)}) for k in (0, 1))
    assert not np.array_equal(a, b)


def test_dropconnect_refuses_wrong_input_shapes_and_rates() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 3, 4\) and rate 0.5"):
        DropConnect(True, 7, 0.5).init(jax.random.key(0), jnp.ones((2, 3, 4)))
    with pytest.raises(ValueError, match=r"and rate 1\.0"):
        DropConnect(True, 7, 1.0).init(jax.random.key(0), jnp.ones((2, 3)))
