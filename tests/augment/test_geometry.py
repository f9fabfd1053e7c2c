"""Flips and crops against numpy for every draw, the distribution of the draws, and the keys of the pipeline."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxtrain.augment import AUGMENTATIONS
from jaxtrain.augment.geometry import flip_lr, flip_lr_given, flip_ud_given, pad_crop, pad_crop_given
from jaxtrain.augment.pipeline import pipeline

SHAPES = [(4, 4, 1), (3, 5, 3), (1, 1, 1)]
PADDING = 2
OFFSETS = np.array([(i, j) for i in range(2 * PADDING + 1) for j in range(2 * PADDING + 1)], np.int32)


def image(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    values = np.random.default_rng(0).permutation(math.prod(shape)).reshape(shape) + 1
    return values.astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", SHAPES)
def test_flips_equal_numpy(shape: tuple[int, int, int], dtype: Any):
    x = image(shape, dtype)
    for axis, flip in ((1, flip_lr_given), (0, flip_ud_given)):
        flipped, same = jax.jit(jax.vmap(flip, (0, None)))(np.array([True, False]), x)
        assert flipped.dtype == dtype
        np.testing.assert_array_equal(flipped, np.flip(x, axis=axis))
        np.testing.assert_array_equal(same, x)


@pytest.mark.parametrize("mode", ["zero", "reflect", "edge"])
@pytest.mark.parametrize(("shape", "dtype"), [(SHAPES[0], np.uint8), (SHAPES[1], np.float32), (SHAPES[2], np.uint8)])
def test_pad_crop_equals_numpy_for_every_offset(shape: tuple[int, int, int], dtype: Any, mode: str):
    """The image of one pixel is smaller than its padding, so that numpy reflects it more than once."""
    x = image(shape, dtype)
    crops = jax.jit(jax.vmap(lambda offset: pad_crop_given(offset, x, PADDING, mode)))(OFFSETS)
    assert crops.dtype == dtype
    padded = np.pad(x, ((PADDING,) * 2, (PADDING,) * 2, (0, 0)), mode="constant" if mode == "zero" else mode)
    expected = [padded[i : i + shape[0], j : j + shape[1]] for i, j in OFFSETS]
    np.testing.assert_array_equal(crops, expected)


def keys(count: int, seed: int = 0) -> jax.Array:
    return jax.random.split(jax.random.key(seed), count)


@pytest.mark.parametrize("probability", [0.0, 0.3, 0.5, 1.0])
def test_flip_lr_mirrors_with_its_probability(probability: float):
    """20,000 draws within six standard deviations: a right one fails with a chance of 2e-9."""
    x, count = image((1, 2, 1), np.uint8), 20_000
    flips = np.asarray(jax.jit(jax.vmap(flip_lr(probability), (0, None)))(keys(count), x))[:, 0, 0, 0] == x[0, 1, 0]
    tolerance = 6 * math.sqrt(probability * (1 - probability) / count)
    assert abs(flips.mean() - probability) <= tolerance


def test_pad_crop_offsets_are_uniform():
    """Chi-square over the 25 offsets, 24 degrees of freedom; above 81.9 with a chance of 3e-8."""
    count = 10_000
    place = image((5, 5, 1), np.uint8)  # with zero padding, the middle pixel of the crop tells the offset
    crops = np.asarray(jax.jit(jax.vmap(pad_crop(PADDING, "zero"), (0, None)))(keys(count), place))
    observed = np.array([(crops[:, 2, 2, 0] == value).sum() for value in place.reshape(-1)])
    assert observed.sum() == count
    expected = count / 25
    assert ((observed - expected) ** 2 / expected).sum() < 81.9


def test_default_pad_crop_reaches_every_offset_of_four_pixels():
    place = image((9, 9, 1), np.uint8)
    crops = np.asarray(jax.jit(jax.vmap(pad_crop(), (0, None)))(keys(3000), place))
    assert set(crops[:, 4, 4, 0].tolist()) == set(range(1, 82))  # one of 81 missed: a chance of 81 exp(-37)


@pytest.mark.quick_cases("shape0-uint8-*")
@pytest.mark.parametrize("name", ["flip_lr", "flip_ud", "pad_crop"])
@pytest.mark.parametrize(("shape", "dtype"), [((4, 6, 3), np.uint8), ((1, 1, 1), np.uint8), ((6, 4, 1), np.float32)])
def test_flips_and_pad_crop_are_bitwise_reproducible(name: str, shape: tuple[int, int, int], dtype: Any):
    """Shape and dtype are kept, the draw is a function of the key, examples differ, and jit changes nothing."""
    augment = AUGMENTATIONS.create(name)
    x = image(shape, dtype)
    mapped = jax.vmap(augment, (0, None))
    eager = np.asarray(mapped(keys(64), x))
    assert (eager.shape, eager.dtype) == ((64, *shape), dtype)
    np.testing.assert_array_equal(jax.jit(mapped)(keys(64), x), eager)
    one = augment(jax.random.wrap_key_data(jax.random.key_data(keys(64))[7]), jnp.asarray(x))
    np.testing.assert_array_equal(one, eager[7])
    if math.prod(shape) > 1:
        assert len(np.unique(eager.reshape(64, -1), axis=0)) > 1
        assert not np.array_equal(mapped(keys(64, seed=1), x), eager)


def test_pipeline_applies_augmentations_in_order():
    images = np.arange(6, dtype=np.float32).reshape(3, 2, 1, 1)
    add, double = (lambda _, x: x + 1), (lambda _, x: x * 2)
    np.testing.assert_array_equal(pipeline([add, double])(jax.random.key(0), images), (images + 1) * 2)
    np.testing.assert_array_equal(pipeline([double, add])(jax.random.key(0), images), images * 2 + 1)
    np.testing.assert_array_equal(pipeline([])(jax.random.key(0), images), images)


def numbers(key: jax.Array, x: jax.Array) -> jax.Array:
    """Append random bits of the key to `x`, so that the keys are visible in the result."""
    return jnp.concatenate([x[1:], jax.random.bits(key, (1, 1, 1), jnp.uint32)])


def test_pipeline_gives_each_example_and_augmentation_its_own_key():
    """Example i and augmentation j use `fold_in(fold_in(key, i), j)` for every batch size."""
    run = pipeline([numbers, numbers])
    drawn = np.asarray(run(jax.random.key(5), jnp.zeros((6, 2, 1, 1), jnp.uint32)))[:, :, 0, 0]
    for example in range(6):
        for place in range(2):
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(5), example), place)
            assert drawn[example, place] == jax.random.bits(key, dtype=jnp.uint32)
    assert len(np.unique(drawn)) == drawn.size
    fewer = run(jax.random.key(5), jnp.zeros((3, 2, 1, 1), jnp.uint32))
    np.testing.assert_array_equal(np.asarray(fewer)[:, :, 0, 0], drawn[:3])


@pytest.mark.slow
@pytest.mark.parametrize("devices", [8, 2])
def test_pipeline_results_are_independent_of_the_batch_sharding(devices: int):
    images = np.random.default_rng(0).integers(0, 256, (16, 5, 4, 3), np.uint8)
    run = pipeline([pad_crop(2, "reflect"), flip_lr()])
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
    whole, divided = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))
    sharded = jax.jit(run, in_shardings=(whole, divided), out_shardings=divided)
    result = sharded(jax.device_put(jax.random.key(3), whole), jax.device_put(images, divided))
    alone = np.asarray(jax.jit(run)(jax.random.key(3), images))
    assert len(result.sharding.device_set) == devices
    np.testing.assert_array_equal(result, alone)
    assert not np.array_equal(alone, images)
