"""Kernel initializers against closed forms, torch, and gradient norms through many layers."""

import math
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrain.nn.init import initializers
from jaxtrain.nn.init.initializers import KernelInit, initializer, normal, orthogonal, random_walk
from tests.conftest import slow


def drawn(init: Any, *shape: int, dtype: Any = jnp.float32, seed: int = 0) -> np.ndarray:
    return np.asarray(init(jax.random.key(seed), shape, dtype), np.float64)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("he", math.sqrt(2 / 2304)),
        ("he_fan_out", math.sqrt(2 / 1152)),
        ("xavier", math.sqrt(1 / 2304)),
        ("glorot", math.sqrt(2 / (2304 + 1152))),
        ("glorot_uniform", math.sqrt(2 / (2304 + 1152))),
        ("lecun", math.sqrt(1 / 2304)),
        ("orthogonal", math.sqrt(1 / 2304)),
        ("random_walk", math.sqrt(2 / 2304) * math.exp(1.2 / (2304 - 2.4))),
        ("normal", 0.01),
        ("zeros", 0.0),
    ],
)
def test_initializer_has_its_standard_deviation(name: KernelInit, expected: float) -> None:
    """The kernel is a 3x3 convolution with 256 inputs and 128 outputs."""
    found = drawn(initializer(name), 3, 3, 256, 128)
    assert found.std() == pytest.approx(expected, rel=0.01)
    assert abs(found.mean()) <= 0.01 * expected


def test_every_name_has_an_initializer() -> None:
    assert set(get_args(KernelInit)) == set(initializers._BY_NAME)


@pytest.mark.parametrize(
    ("name", "torch_name", "options"),
    [
        ("he", "kaiming_normal_", {"nonlinearity": "relu"}),
        ("he_fan_out", "kaiming_normal_", {"mode": "fan_out", "nonlinearity": "relu"}),
        ("glorot", "xavier_normal_", {}),
        ("glorot_uniform", "xavier_uniform_", {}),
        ("orthogonal", "orthogonal_", {}),
    ],
)
def test_initializer_has_the_standard_deviation_of_torch(
    name: KernelInit, torch_name: str, options: dict[str, Any]
) -> None:
    torch = pytest.importorskip("torch", reason="the oracle is torch, the extra `oracles`")
    torch.manual_seed(0)
    theirs = getattr(torch.nn.init, torch_name)(torch.empty(96, 64, 5, 5), **options).numpy()
    ours = drawn(initializer(name), 5, 5, 64, 96)
    assert ours.std() == pytest.approx(theirs.std(), rel=0.01)
    if name == "glorot_uniform":
        assert np.abs(ours).max() == pytest.approx(np.abs(theirs).max(), rel=0.001)


@pytest.mark.quick_cases("shape0")
@pytest.mark.parametrize("shape", [(3, 3, 4, 10), (6, 20), (1, 1, 7, 7)])
def test_orthogonal_initializer_gives_orthogonal_columns_or_rows(shape: tuple[int, ...]) -> None:
    matrix = drawn(orthogonal(1.5), *shape).reshape(-1, shape[-1]) / 1.5
    product = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
    np.testing.assert_allclose(product, np.eye(len(product)), atol=2e-6)


def test_orthogonal_initializer_makes_each_group_orthogonal_separately() -> None:
    found = drawn(orthogonal(groups=3), 3, 3, 2, 12).reshape(18, 3, 4)
    for group in range(3):
        np.testing.assert_allclose(found[:, group].T @ found[:, group], np.eye(4), atol=2e-6)
    assert np.abs(found[:, 0].T @ found[:, 1]).max() > 0.01
    with pytest.raises(ValueError, match=r"\(3, 10\) cannot be divided into matrices for 3 groups"):
        drawn(orthogonal(groups=3), 3, 10)


def test_orthogonal_initializer_in_bfloat16_is_orthogonal_to_its_precision() -> None:
    found = orthogonal()(jax.random.key(0), (16, 16), jnp.bfloat16)
    assert found.dtype == jnp.bfloat16
    matrix = np.asarray(found, np.float64)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(16), atol=0.02)


def test_orthogonal_initializer_draws_uniform_orthogonal_matrices() -> None:
    """The trace of a uniform orthogonal matrix has the mean 0 and the variance 1 (Diaconis & Shahshahani 1994)."""
    keys = jax.random.split(jax.random.key(0), 2000)
    matrices = jax.vmap(lambda k: orthogonal()(k, (8, 8), jnp.float32))(keys)
    traces = np.trace(np.asarray(matrices), axis1=1, axis2=2)
    assert abs(traces.mean()) < 0.08
    assert traces.var() == pytest.approx(1, rel=0.12)


def walk(init: Any, width: int, layers: int, relu: bool) -> np.ndarray:
    """Return the mean change per layer in the logarithm of a back-propagated gradient's norm, over many nets."""
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(600, width))
    begin = np.log(np.linalg.norm(gradients, axis=1))
    for i in range(layers):
        kernels = drawn(init, width, 600 * width, seed=i).reshape(width, 600, width)  # a net's own
        if relu:  # half of the units pass their gradient on
            gradients = gradients * (rng.random(gradients.shape) < 0.5)
        gradients = np.einsum("inj,nj->ni", kernels, gradients)
    return (np.log(np.linalg.norm(gradients, axis=1)) - begin) / layers


@pytest.mark.quick_cases("linear-10")
@pytest.mark.parametrize(("follows", "width"), [("linear", 10), slow("linear", 30), ("relu", 20)])
def test_random_walk_initializer_keeps_gradient_norms_over_many_layers(follows: Any, width: int) -> None:
    """The gain depends on the width: without it a linear net of width 10 loses 5 % per layer, a ReLU net more."""
    relu = follows == "relu"
    corrected = walk(random_walk(follows), width, 20, relu).mean()
    plain = walk(initializers.he() if relu else initializers.xavier(), width, 20, relu).mean()
    assert abs(corrected) < 0.012
    assert plain < -0.8 / (2 * width)


def test_normal_and_constant_initializers_give_their_values() -> None:
    assert drawn(normal(0.05), 300, 300).std() == pytest.approx(0.05, rel=0.01)
    np.testing.assert_array_equal(drawn(initializers.constant(0.3), 2, 3), np.full((2, 3), np.float32(0.3)))


def test_constant_kernel_gives_all_units_the_same_gradient() -> None:
    kernel = initializers.constant(0.1)(jax.random.key(0), (5, 4), jnp.float32)
    x = jax.random.normal(jax.random.key(0), (7, 5))
    gradient = jax.grad(lambda k: jnp.square(jnp.tanh(x @ k) @ jnp.ones(4)).sum())(kernel)
    np.testing.assert_allclose(gradient, np.repeat(np.asarray(gradient)[:, :1], 4, axis=1), rtol=1e-6)
