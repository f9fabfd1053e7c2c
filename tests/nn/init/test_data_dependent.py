"""Within-layer and between-layer initialization (Kraehenbuehl et al. 2016), against independent measurements."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxtrain import models
from jaxtrain.nn import between_layers, within_layer
from jaxtrain.nn.init.between_layer import change_rates
from jaxtrain.nn.init.patch_whitening import kmeans_filters, pca_filters
from tests.nn.nets import IMAGES, Constant, NoLayers, Small, key, outputs, shapes

WITH_BIAS = ("conv1", "conv2", "fc", "logits")


@functools.cache
def made(filters: Any) -> Any:
    return within_layer(Small(), key(), IMAGES, filters=filters, mean=0.3, patches=200)


@pytest.mark.slow
@pytest.mark.parametrize("filters", ["gaussian", "pca"])
def test_within_layer_gives_every_channel_the_target_mean_and_deviation(filters: Any) -> None:
    variables = made(filters)
    own = jax.eval_shape(lambda: Small().init(key(0), jnp.asarray(IMAGES), train=False))
    assert shapes(variables) == shapes(own)
    given = outputs(Small(), variables, IMAGES)
    for name in (*WITH_BIAS, "conv3"):
        rows = given[name].reshape(-1, given[name].shape[-1])
        np.testing.assert_allclose(rows.std(axis=0), 1, rtol=1e-4, err_msg=name)
        if name in WITH_BIAS:
            np.testing.assert_allclose(rows.mean(axis=0), 0.3, atol=1e-4, err_msg=name)


def patches(images: np.ndarray) -> np.ndarray:
    """Return the zero-padded 3x3 windows at a stride of 2 that `conv1` sees."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    places = [(i, j) for i in range(0, 6, 2) for j in range(0, 6, 2)]
    return np.stack([padded[:, i : i + 3, j : j + 3].reshape(len(images), -1) for i, j in places], 1).reshape(-1, 36)


def test_pca_filters_are_the_principal_components_of_patches() -> None:
    kernel = np.asarray(made("pca")["params"]["conv1"]["kernel"], np.float64).reshape(36, 8)
    values, vectors = np.linalg.eigh(np.cov(patches(IMAGES).astype(np.float64).T))
    expected = vectors[:, ::-1][:, :8]
    cosines = (kernel / np.linalg.norm(kernel, axis=0)).T @ expected
    np.testing.assert_allclose(np.abs(np.diag(cosines)), 1, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(kernel, axis=0), 1 / np.sqrt(values[::-1][:8]), rtol=0.01)


class Grouped(nn.Module):
    """One convolution with two groups."""

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        return nn.Conv(4, (1, 1), feature_group_count=2, name="conv")(images)


def test_pca_filters_of_a_group_use_only_its_inputs() -> None:
    kernel = within_layer(Grouped(), key(0), IMAGES, filters="pca")["params"]["conv"]["kernel"]
    for group, part in enumerate(np.split(np.asarray(kernel, np.float64).reshape(2, 4), 2, axis=1)):
        rows = IMAGES[..., 2 * group : 2 * group + 2].reshape(-1, 2).astype(np.float64)
        outer = (rows - rows.mean(axis=0)) @ part
        np.testing.assert_allclose(np.cov(outer.T, bias=True), np.eye(2), atol=1e-4)


@pytest.mark.slow
def test_kmeans_filters_of_each_group_are_scaled_to_unit_variance() -> None:
    variables = within_layer(Grouped(), key(), IMAGES, filters="kmeans", patches=50)
    rows = outputs(Grouped(), variables, IMAGES)["conv"].reshape(-1, 4)
    np.testing.assert_allclose(rows.std(axis=0), 1, rtol=1e-4)
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-4)
    kernel = np.asarray(variables["params"]["conv"]["kernel"])
    assert np.abs(kernel - np.asarray(within_layer(Grouped(), key(), IMAGES)["params"]["conv"]["kernel"])).max() > 0.01


def test_pca_filters_fill_missing_components_with_random_numbers() -> None:
    rng = np.random.default_rng(0)
    rows = jnp.asarray(rng.normal(size=(50, 2)) @ rng.normal(size=(2, 5)), jnp.float32)  # rank 2
    random = jnp.asarray(rng.normal(size=(5, 7)), jnp.float32)
    found = pca_filters(rows, random)
    np.testing.assert_array_equal(found[:, 2:], random[:, 2:])
    np.testing.assert_allclose(found[:, :2].T @ found[:, :2], np.eye(2), atol=1e-5)


@pytest.mark.slow
def test_kmeans_filters_find_the_clusters() -> None:
    """Four noisy directions, equally frequent and in opposite pairs, so that whitening keeps angles."""
    rng = np.random.default_rng(0)
    centers = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])
    rows = jnp.asarray(np.tile(centers, (100, 1)) + rng.normal(0, 0.05, (400, 2)), jnp.float32)
    best = 0.0
    for seed in range(4):  # k-means depends on where it begins
        rows = jnp.asarray(rng.permutation(np.asarray(rows)))
        found = np.asarray(kmeans_filters(key(seed), rows, jnp.zeros((2, 4), jnp.float32)))
        best = max(best, (centers @ found).max(axis=1).min())
    assert best > 0.99


def measured_rates(model: nn.Module, variables: Any, names: tuple[str, ...], draws: int) -> np.ndarray:
    """Return rates of change from Jacobians of all outputs, the exact expectation over random losses."""
    params = variables["params"]
    apply = jax.jit(jax.jacrev(lambda p, x: model.apply({"params": p}, x[None], train=False)[0]))
    squares = dict.fromkeys(names, 0.0)
    for image in IMAGES[:draws]:
        jacobian = apply(params, jnp.asarray(image))
        for name in names:
            squares[name] = squares[name] + np.square(np.asarray(jacobian[name]["kernel"], np.float64)).sum(axis=0)
    rates = []
    for name in names:
        columns = np.sqrt((squares[name] / draws).reshape(-1, squares[name].shape[-1]).mean(axis=1))
        rates.append(columns.mean() / np.sqrt(np.square(np.asarray(params[name]["kernel"], np.float64)).mean()))
    return np.array(rates)


@pytest.mark.slow
def test_change_rates_equal_those_from_jacobians() -> None:
    """The average is over many random losses, since one loss per example deviates from the mean."""
    model = models.mlp(num_classes=4, widths=(8, 6))
    images = np.repeat(IMAGES[:, :2, :2], 400, axis=0)
    variables = model.init(key(0), jnp.asarray(images), train=False)
    found = change_rates(model, variables, key(1), images)
    assert list(found) == ["fc1", "fc2", "logits"]
    x = images[::400].reshape(12, -1).astype(np.float64)
    kernels = [np.asarray(variables["params"][n]["kernel"], np.float64) for n in found]
    hidden = [x, np.maximum(x @ kernels[0], 0)]
    hidden.append(np.maximum(hidden[1] @ kernels[1], 0))
    for i, name in enumerate(found):
        total = np.zeros(kernels[i].shape)
        for n in range(12):  # dz_out / dz_i, then every entry's square
            backward = np.eye(kernels[i].shape[1])
            for j in range(i + 1, 3):
                backward = (backward * (hidden[j][n] > 0)) @ kernels[j]
            total += np.square(hidden[i][n])[:, None] * np.square(backward).sum(axis=1)[None, :]
        rate = np.sqrt((total / 12).mean(axis=1)).mean() / np.sqrt(np.square(kernels[i]).mean())
        assert float(found[name]) == pytest.approx(rate, rel=0.05), name


@pytest.mark.slow
def test_between_layers_equalizes_change_rates_and_keeps_the_outputs() -> None:
    class Plain(nn.Module):
        """A homogeneous net with biases."""

        @nn.compact
        def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
            x = nn.relu(nn.Conv(16, (3, 3), padding=1, name="conv1")(images))
            x = nn.relu(nn.Conv(16, (3, 3), strides=2, feature_group_count=2, name="conv2")(x))
            x = nn.relu(nn.Dense(64, name="fc")(x.reshape(x.shape[0], -1)))
            return nn.Dense(20, name="logits")(x)

    names = ("conv1", "conv2", "fc", "logits")
    before = within_layer(Plain(), key(0), IMAGES, mean=0.1)
    after = between_layers(Plain(), key(1), IMAGES, before, tolerance=0.02)
    unequal, equal = (np.log(measured_rates(Plain(), v, names, len(IMAGES))) for v in (before, after))
    assert np.ptp(unequal) > 1
    assert np.ptp(equal) < 0.15  # of the expectation; a single draw of the loss was balanced
    run = jax.jit(lambda v: Plain().apply(v, jnp.asarray(IMAGES), train=False))
    np.testing.assert_allclose(run(after), run(before), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_between_layers_gives_equal_rates_and_unit_variance() -> None:
    model = models.mlp(num_classes=10, widths=(30, 20))
    variables = between_layers(model, key(0), IMAGES, tolerance=0.02)
    rates = np.log(measured_rates(model, variables, ("fc1", "fc2", "logits"), len(IMAGES)))
    assert np.ptp(rates) < 0.4
    rows = outputs(model, variables, IMAGES)["logits"]
    np.testing.assert_allclose(rows.std(axis=0), 1, rtol=1e-3)


@pytest.mark.slow
def test_within_layer_and_between_layers_name_layers_that_cannot_be_balanced() -> None:
    keys = jax.random.split(key(0), 6)
    with pytest.raises(ValueError, match="this one has 1 example"):
        within_layer(Small(), keys[0], IMAGES[:1])
    with pytest.raises(ValueError, match="layer second does not vary"):
        within_layer(Constant(), keys[1], IMAGES)
    with pytest.raises(ValueError, match="NoLayers calls no"):
        between_layers(NoLayers(), keys[2], IMAGES, {"params": {"shift": jnp.float32(0)}})
    model = models.mlp(num_classes=3, widths=(5,))
    variables = within_layer(model, keys[3], IMAGES)
    with pytest.raises(ValueError, match=r"after 1 iterations .* differ from their mean by up to"):
        between_layers(model, keys[4], IMAGES, variables, max_iterations=1, tolerance=0.001)
    head = {**variables["params"]["logits"], "kernel": jnp.zeros((5, 3)), "bias": jnp.zeros(3)}
    dead = {"params": {**variables["params"], "logits": head}}
    with pytest.raises(ValueError, match="layer logits does not vary"):
        between_layers(model, keys[5], IMAGES, dead)


@pytest.mark.slow
def test_within_layer_scales_each_head_of_an_attention_layer() -> None:
    class Attention(nn.Module):
        """Kernels `[inputs, heads, size]` and `[heads, size, outputs]`."""

        @nn.compact
        def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
            return nn.MultiHeadDotProductAttention(2, name="attention")(images.reshape(images.shape[0], -1, 4))

    variables = within_layer(Attention(), key(), IMAGES, filters="pca", mean=0.5)
    given = outputs(Attention(), variables, IMAGES)
    for name, shape in {"query": (2, 2), "value": (2, 2), "out": (4,)}.items():
        rows = given[f"attention/{name}"].reshape(-1, *shape)
        np.testing.assert_allclose(rows.std(axis=0), 1, rtol=1e-3)
        np.testing.assert_allclose(rows.mean(axis=0), 0.5, atol=1e-3)
