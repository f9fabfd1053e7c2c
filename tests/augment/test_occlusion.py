"""Cutout and random erasing: the rectangle for a given draw, and how often rectangles are drawn."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrain.augment import cutout, random_erasing
from jaxtrain.augment.occlusion import cutout_given, erase_given, erasing_box


def keys(count: int) -> jax.Array:
    return jax.random.split(jax.random.key(11), count)


@pytest.mark.parametrize("size", [1, 4, 5])
def test_cutout_equals_the_square_of_the_paper_for_every_center(size: int) -> None:
    """The square may leave the image on each side; for even sizes it is that of DeVries & Taylor's code."""
    x = np.random.default_rng(0).integers(1, 256, (6, 9, 3), np.uint8)
    centers = np.array([(i, j) for i in range(6) for j in range(9)], np.int32)
    results = jax.jit(jax.vmap(lambda c: cutout_given(c, x, size, 0.0)))(centers)
    for (i, j), result in zip(centers, results, strict=True):
        expected = x.copy()
        top, left = i - size // 2, j - size // 2
        expected[max(top, 0) : top + size, max(left, 0) : left + size] = 0
        np.testing.assert_array_equal(result, expected)


def test_cutout_centers_are_uniform() -> None:
    """Chi-square over 12 centers, 11 degrees of freedom; above 57 with a chance of 3e-8."""
    count = 6000
    x = np.ones((3, 4, 1), np.float32)
    results = np.asarray(jax.jit(jax.vmap(cutout(1, fill=0.0), (0, None)))(keys(count), x))
    assert (results.sum(axis=(1, 2, 3)) == 11).all()
    observed = (results == 0).sum(axis=0).reshape(-1)
    assert ((observed - count / 12) ** 2 / (count / 12)).sum() < 57


def test_cutout_fills_with_a_color() -> None:
    x = jnp.zeros((4, 4, 3), jnp.uint8)
    result = np.asarray(cutout(4, fill=(0.0, 0.5, 1.0))(jax.random.key(0), x))
    assert {tuple(p) for p in result.reshape(-1, 3).tolist()} <= {(0, 0, 0), (0, 128, 255)}
    assert (result[..., 2] == 255).any()


def test_cutout_refuses_a_square_that_can_hide_the_image() -> None:
    with pytest.raises(ValueError, match="a square of 16 can hide an image of 8x10; choose a smaller size"):
        jax.eval_shape(cutout(16), jax.random.key(0), jnp.zeros((8, 10, 3)))
    assert jax.eval_shape(cutout(10), jax.random.key(0), jnp.zeros((8, 10, 3))).shape == (8, 10, 3)


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.float32])
def test_random_erasing_replaces_the_given_rectangle(dtype: Any) -> None:
    x = jnp.zeros((4, 5, 1), dtype)
    result = np.asarray(erase_given(jnp.array([1, 3, 2, 2]), x, jnp.ones((4, 5, 1), dtype)))
    assert result.dtype == dtype
    np.testing.assert_array_equal(np.argwhere(result[:, :, 0]), [[1, 3], [1, 4], [2, 3], [2, 4]])


def test_erasing_boxes_lie_inside_with_the_given_area_and_aspect() -> None:
    height, width, area, aspect = 60, 90, (0.05, 0.2), (0.5, 2.0)
    boxes = np.asarray(jax.jit(jax.vmap(lambda k: erasing_box(k, height, width, area, aspect)))(keys(4000)))
    row, column, h, w = boxes.T
    assert (h > 0).all()
    assert (np.minimum(row, column) >= 0).all()
    assert (row + h <= height).all()
    assert (column + w <= width).all()
    share, ratio = h * w / (height * width), h / w
    assert 0.045 < share.min() < 0.06
    assert 0.19 < share.max() < 0.21
    assert 0.45 < ratio.min() < 0.55
    assert 1.8 < ratio.max() < 2.2
    # Uniform in area and in the logarithm of the aspect: the means, within six standard deviations.
    assert abs(share.mean() - 0.125) < 6 * 0.15 / math.sqrt(12 * 4000)
    assert abs(np.log(ratio).mean()) < 6 * 2 * math.log(2) / math.sqrt(12 * 4000)


def test_erasing_box_is_empty_where_none_fits() -> None:
    box = jax.jit(lambda k: erasing_box(k, 4, 4, (1.0, 1.0), (1.0, 1.0)))(jax.random.key(0))
    assert box[2] == 0


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_random_erasing_fills_with_uniform_noise(dtype: Any) -> None:
    """The values in the rectangle are independent and uniform over the whole range."""
    x = np.full((20, 20, 3), 7, dtype) if dtype == np.uint8 else np.full((20, 20, 3), 2.0, dtype)
    results = np.asarray(jax.jit(jax.vmap(random_erasing(0.5, (0.2, 0.3)), (0, None)))(keys(900), x))
    erased = (results != x).any(axis=(1, 2, 3))
    assert abs(erased.mean() - 0.5) < 6 * 0.5 / math.sqrt(900)
    values = results[results != x].astype(float) / (255 if dtype == np.uint8 else 1)
    assert abs(values.mean() - 0.5) < 0.01
    assert abs(values.std() - math.sqrt(1 / 12)) < 0.01
