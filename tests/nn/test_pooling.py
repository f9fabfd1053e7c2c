"""Pooling as a reshape, against numpy loops and flax's `reduce_window` pools, values and gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxtrain.nn.pooling import Pooling, pool

SHAPES = [((2, 4, 6, 3), 2), ((1, 7, 5, 2), 2), ((2, 7, 11, 1), 3), ((1, 3, 2, 2), 1)]
KINDS: list[Pooling] = ["max", "average"]


def distinct(shape: tuple[int, ...]) -> np.ndarray:
    """No two values equal: without ties the gradient of a maximum is the same however it is computed."""
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
def test_values_and_gradients(kind: Pooling, shape: tuple[int, ...], window: int):
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


def test_what_fills_no_tile_is_left_out_of_values_and_gradients():
    x = distinct((1, 3, 3, 1))
    x[:, 2, :], x[:, :, 2] = 100, 100
    value, grad = jax.value_and_grad(lambda a: pool(a).sum())(jnp.asarray(x))
    assert value == x[:, :2, :2].max()
    assert np.count_nonzero(grad) == 1
    assert not grad[:, 2].any()
    assert not grad[:, :, 2].any()


def test_a_shared_maximum_divides_its_gradient():
    x = jnp.array([[3.0, 3.0], [1.0, 3.0]]).reshape(1, 2, 2, 1)
    grad = jax.grad(lambda a: pool(a).sum())(x)
    np.testing.assert_allclose(np.asarray(grad).reshape(2, 2), [[1 / 3, 1 / 3], [0, 1 / 3]], rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_dtype_is_kept(kind: Pooling, dtype: Any):
    assert jax.eval_shape(lambda x: pool(x, kind), jax.ShapeDtypeStruct((1, 4, 4, 1), dtype)).dtype == dtype
