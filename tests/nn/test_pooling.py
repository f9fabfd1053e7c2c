"""Pooling as a reshape, against numpy loops and flax's `reduce_window` pools, values and gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxtrain.nn.pooling import Pooling, Subsampling, average_pool, global_pool, max_pool, pool

SHAPES = [((2, 4, 6, 3), 2), ((1, 7, 5, 2), 2), ((2, 7, 11, 1), 3), ((1, 3, 2, 2), 1)]
KINDS: list[Pooling] = ["max", "average"]


def distinct(shape: tuple[int, ...]) -> np.ndarray:
    """Return distinct values: without ties the gradient of a maximum is unique."""
    values = np.random.default_rng(0).permutation(int(np.prod(shape)))
    return (values.reshape(shape) / 7 - 3).astype(np.float32)


def numpy_pool(x: np.ndarray, kind: str, window: int) -> np.ndarray:
    n, h, w, c = x.shape
    result = np.empty((n, h // window, w // window, c), np.float64)
    for i in range(h // window):
        for j in range(w // window):
            tile = x[:, i * window : (i + 1) * window, j * window : (j + 1) * window].astype(np.float64)
            result[:, i, j] = tile.max(axis=(1, 2)) if kind == "max" else tile.mean(axis=(1, 2))
    return result


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("shape", "window"), SHAPES)
def test_pool_equals_numpy_and_flax_in_values_and_gradients(kind: Pooling, shape: tuple[int, ...], window: int):
    x = distinct(shape)
    cotangent = np.random.default_rng(1).normal(size=numpy_pool(x, kind, window).shape).astype(np.float32)
    flax_pool = nn.max_pool if kind == "max" else nn.avg_pool

    def run(x: Any) -> Any:
        ours, back = jax.vjp(lambda a: pool(a, kind, window), x)
        theirs, flax_back = jax.vjp(lambda a: flax_pool(a, (window, window), strides=(window, window)), x)
        return ours, theirs, *back(jnp.asarray(cotangent)), *flax_back(jnp.asarray(cotangent))

    with jax.numpy_dtype_promotion("standard"):  # flax divides by an integer count
        ours, theirs, grad, flax_grad = jax.jit(run)(x)
    # a maximum is exact; an average of up to nine float32 is not
    tolerance = 0 if kind == "max" else 1e-6
    np.testing.assert_allclose(ours, numpy_pool(x, kind, window), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(grad, flax_grad, rtol=tolerance, atol=tolerance)


def test_pool_ignores_incomplete_windows():
    x = distinct((1, 3, 3, 1))
    x[:, 2, :], x[:, :, 2] = 100, 100
    value, grad = jax.value_and_grad(lambda a: pool(a).sum())(jnp.asarray(x))
    assert value == x[:, :2, :2].max()
    assert np.count_nonzero(grad) == 1
    assert not grad[:, 2].any()
    assert not grad[:, :, 2].any()


def test_max_pool_splits_the_gradient_among_equal_maxima():
    x = jnp.array([[3.0, 3.0], [1.0, 3.0]]).reshape(1, 2, 2, 1)
    grad = jax.grad(lambda a: pool(a).sum())(x)
    np.testing.assert_allclose(np.asarray(grad).reshape(2, 2), [[1 / 3, 1 / 3], [0, 1 / 3]], rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_pool_keeps_the_dtype(kind: Pooling, dtype: Any):
    assert jax.eval_shape(lambda x: pool(x, kind), jax.ShapeDtypeStruct((1, 4, 4, 1), dtype)).dtype == dtype


WINDOWS = [(3, 2, 0, False), (3, 2, 0, True), (3, 2, 1, False), (3, 1, 1, False), (2, 2, 0, True), (5, 3, 0, False)]


@pytest.mark.quick_cases("3-2-1-False-14", "3-2-0-True-13", "5-3-0-False-27")
@pytest.mark.parametrize("size", [13, 14, 27])
@pytest.mark.parametrize(("window", "stride", "padding", "ceil"), WINDOWS)
def test_overlapping_pools_equal_torch(size: int, window: int, stride: int, padding: int, ceil: bool) -> None:
    torch = pytest.importorskip("torch", reason="the oracle is torch.nn.functional")
    x = distinct((2, size, size + 1, 3)) - 20
    f = torch.nn.functional
    theirs = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    pairs: list[tuple[Any, Any]] = [
        (
            lambda x: max_pool(x, window, stride, padding=padding, ceil=ceil),
            f.max_pool2d(theirs, window, stride, padding, ceil_mode=ceil),
        )
    ]
    for count in (True, False):
        pairs.append(
            (
                lambda x, count=count: average_pool(x, window, stride, padding=padding, ceil=ceil, count_padding=count),
                f.avg_pool2d(theirs, window, stride, padding, ceil_mode=ceil, count_include_pad=count),
            )
        )
    for function, expected in pairs:
        found, back = jax.vjp(function, jnp.asarray(x))
        np.testing.assert_allclose(found, expected.detach().numpy().transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-5)
        (gradient,) = torch.autograd.grad(expected.square().sum(), theirs)
        wanted = gradient.numpy().transpose(0, 2, 3, 1)
        np.testing.assert_allclose(back(2 * found)[0], wanted, rtol=1e-4, atol=1e-4)


def test_global_pool_and_subsampling_equal_numpy() -> None:
    x = distinct((2, 4, 6, 3))
    np.testing.assert_allclose(global_pool(jnp.asarray(x)), x.mean(axis=(1, 2)), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(global_pool(jnp.asarray(x), "max"), x.max(axis=(1, 2)))
    params = {"coefficient": jnp.array([0.5, 1.0, -2.0]), "bias": jnp.array([1.0, 0.0, 3.0])}
    found = Subsampling().apply({"params": params}, jnp.asarray(x))
    sums = x.reshape(2, 2, 2, 3, 2, 3).sum(axis=(2, 4))
    np.testing.assert_allclose(found, sums * np.array([0.5, 1, -2]) + np.array([1, 0, 3]), rtol=1e-4, atol=1e-4)
