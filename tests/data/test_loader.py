"""The in-memory loader: each epoch is a permutation, batches are contiguous, and any step can be first."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtrain.augment.geometry import pad_crop
from jaxtrain.augment.pipeline import pipeline
from jaxtrain.data.epoch_shuffle import EpochShuffle
from jaxtrain.data.loader import AugmentSwitch, TrainingLoader, batch_indices, normalize
from jaxtrain.data.memory import put_split
from jaxtrain.data.preprocessing.channels import Normalization
from jaxtrain.data.preprocessing.pixels import Pixels
from jaxtrain.data.source import ArraySource
from jaxtrain.distributed.mesh import Layout, make_layout
from jaxtrain.random import host_generator, stream_key
from tests.conftest import examples

few = examples(10)
# Each size compiles its own slice, so we draw only a few: prime, even, one.
sizes = st.sampled_from([7, 12, 1]).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


def layout() -> Layout:
    return make_layout(1, 1)


def shuffle(examples: int, batch_size: int, seed: int = 0) -> EpochShuffle:
    return EpochShuffle(functools.partial(host_generator, seed, "shuffle"), examples, batch_size, layout().replicated)


def loader(augment: Any, batch_size: int, place: Layout, **options: Any) -> TrainingLoader:
    options = {"normalization": Normalization((0.0,), (1 / 255,)), **options}
    key = functools.partial(stream_key, 0, "augment")
    return TrainingLoader(augment=augment, key=key, batch_size=batch_size, sharding=place.batch, **options)


def batches(order: EpochShuffle, batch_size: int, first: int = 0) -> Iterator[np.ndarray]:
    step = first
    while True:
        yield np.asarray(batch_indices(order.order(step), jnp.int32(step), batch_size))
        step += 1


def sequence(examples: int, batch_size: int, epochs: int, seed: int = 0) -> np.ndarray:
    """Return the example indices of the first epochs in the order of the batches."""
    steps = -(-epochs * examples // batch_size)
    drawn = batches(shuffle(examples, batch_size, seed), batch_size)
    return np.concatenate([next(drawn) for _ in range(steps)])[: epochs * examples]


@few
@given(sizes)
def test_every_epoch_contains_every_example_once(size: tuple[int, int]):
    n, b = size
    epochs = sequence(n, b, epochs=3).reshape(3, n)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(n), (3, 1)))


@few
@given(sizes, st.integers(0, 3))
def test_the_example_order_is_the_permutation_of_each_epochs_random_stream(size: tuple[int, int], seed: int):
    """The order does not depend on the batch size; its seed is `(seed, CRC-32 of "shuffle", epoch)`."""
    n, b = size
    expected = [np.random.RandomState([seed, 0x33FE5971, epoch]).permutation(n) for epoch in range(2)]
    np.testing.assert_array_equal(sequence(n, b, 2, seed), np.concatenate(expected))


@few
@given(sizes, st.integers(0, 40))
def test_an_epoch_shuffle_can_start_at_any_step(size: tuple[int, int], first: int):
    n, b = size
    whole = batches(shuffle(n, b), b)
    for _ in range(first):
        next(whole)
    resumed = batches(shuffle(n, b), b, first)
    for _ in range(2 * n // b + 1):
        np.testing.assert_array_equal(next(resumed), next(whole))


@few
@given(sizes)
def test_an_order_is_reused_for_all_batches_that_begin_in_its_epoch(size: tuple[int, int]):
    n, b = size
    order = shuffle(n, b)
    for step in range(4 * n // b):
        epoch = step * b // n
        held = order.order(step)
        last = max(t for t in range(step, step + n + 1) if t * b // n == epoch)
        assert order.order(last) is held
        assert order.order(last + 1) is not held
        order.order(step)


def test_an_earlier_step_gets_the_same_batch_again():
    """The order depends on the seed and the step only."""
    order = shuffle(7, 3)
    first = np.asarray(batch_indices(order.order(0), jnp.int32(0), 3))
    order.order(6)
    np.testing.assert_array_equal(batch_indices(order.order(0), jnp.int32(0), 3), first)


def test_epochs_and_seeds_have_different_example_orders():
    """There are 16! orders, so two equal ones are not chance."""
    orders = [tuple(epoch) for seed in range(3) for epoch in sequence(16, 16, 4, seed).reshape(4, 16)]
    assert len(set(orders)) == len(orders)


@pytest.mark.slow
def test_epoch_permutations_are_uniform():
    """Counts of (position, example) over 1,000 epochs of 8. For uniform permutations (n-1)/n of the chi-square
    statistic has (n-1)^2 = 49 degrees of freedom: above 117 with a chance of 1e-7.
    """
    n, epochs = 8, 1000
    drawn = sequence(n, n, epochs).reshape(epochs, n)
    counts = np.stack([np.bincount(drawn[:, place], minlength=n) for place in range(n)])
    expected = epochs / n
    assert (n - 1) / n * ((counts - expected) ** 2 / expected).sum() < 117


def test_normalize_equals_numpy():
    normalization = Normalization((0.1, 0.5, 0.9), (0.3, 0.01, 1.0))
    images = np.arange(256, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    result = jax.jit(lambda x: normalize(x, normalization))(images)
    assert result.dtype == jnp.float32
    expected = (images / 255 - np.array(normalization.mean)) / np.array(normalization.std)
    # the two float32 terms are as large as mean / std; the tolerance is one ulp of that
    scale = np.array([1.0, 1.0, 1.0]) / np.array(normalization.std)
    assert (np.abs(np.asarray(result) - expected) / scale).max() < 2e-7


def test_normalize_accepts_a_single_grey_image():
    image = np.array([[[0], [255]]], np.uint8)
    np.testing.assert_allclose(normalize(image, Normalization((0.5,), (0.25,))), [[[-2], [2]]], rtol=1e-6)


def shade(key: jax.Array, image: jax.Array) -> jax.Array:
    """Set the second pixel to a random value, so that the image shows its key."""
    return image.at[0, 1, 0].set(jax.random.bits(key, dtype=jnp.uint8))


@pytest.mark.parametrize("devices", [1, 8])
def test_a_batch_has_the_images_and_labels_of_its_indices(devices: int):
    """Image i has value i and label 2i; augmented with `(key(step), index in the batch)`, then normalized."""
    n, b = 20, 8
    images = np.zeros((n, 1, 2, 1), np.uint8)
    images[:, 0, 0, 0] = np.arange(n)
    place = make_layout(devices, b)
    arrays = put_split(ArraySource(images, 2 * np.arange(n)), place.replicated)
    assert (arrays.images.dtype, arrays.labels.dtype) == (np.uint8, np.int32)
    load = jax.jit(loader(pipeline([shade]), b, place))
    order = EpochShuffle(functools.partial(host_generator, 0, "shuffle"), n, b, place.replicated)
    expected = batches(shuffle(n, b), b)
    shades = []
    for step in range(4):
        batch = load(arrays, order.order(step), jax.device_put(np.int32(step), place.replicated))
        indices = next(expected)
        np.testing.assert_allclose(np.asarray(batch.images)[:, 0, 0, 0], indices, rtol=1e-6)
        np.testing.assert_array_equal(batch.labels, 2 * indices)
        assert len(batch.images.sharding.device_set) == devices
        shades.append(np.asarray(batch.images)[:, 0, 1, 0])
        np.testing.assert_allclose(shades[-1], drawn_shades(step, b), rtol=1e-6)
    assert not np.array_equal(shades[0], shades[1])


def test_the_loader_switches_augmentation_at_a_step_and_mixes_batches_last():
    source = ArraySource(np.zeros((8, 1, 2, 1), np.uint8), np.arange(8))
    place = make_layout(1, 4)
    arrays = put_split(source, place.replicated)

    def black(key, images):
        return jnp.zeros_like(images)

    def mix(step, images, labels):
        return images + 1000, jax.nn.one_hot(labels, 8) * step.astype(jnp.float32)

    switch = AugmentSwitch(2, black)
    load = jax.jit(loader(pipeline([shade]), 4, place, switch=switch, mix=mix))
    for step in range(4):
        batch = load(arrays, shuffle(8, 4).order(step), jax.device_put(np.int32(step), place.replicated))
        shades = drawn_shades(step, 4) if step < 2 else np.zeros(4)
        np.testing.assert_allclose(np.asarray(batch.images)[:, 0, 1, 0] - 1000, shades, atol=1e-3)
        assert batch.labels.shape == (4, 8)
        assert float(batch.labels.max()) == step


def drawn_shades(step: int, batch_size: int) -> list[Any]:
    examples = (jax.random.fold_in(stream_key(0, "augment", step), i) for i in range(batch_size))
    return [np.asarray(jax.random.bits(jax.random.fold_in(key, 0), dtype=jnp.uint8)) for key in examples]


@pytest.mark.slow
def test_normalize_first_pads_with_the_mean():
    """The paper's order: pad_crop pads with 0 after the mean is subtracted, not with a black pixel minus the mean."""
    images = np.random.default_rng(0).integers(1, 256, (6, 3, 3, 1)).astype(np.uint8)
    fitted = Pixels(None).fit([images])
    place = make_layout(1, 4)
    arrays = put_split(ArraySource(images, np.arange(6)), place.replicated)
    order = shuffle(6, 4).order(0)
    found = {}
    for first in (False, True):
        augment = pipeline([pad_crop(2)])
        load = jax.jit(loader(augment, 4, place, normalization=fitted, normalize_first=first))
        found[first] = load(arrays, order, jax.device_put(np.int32(0), place.replicated))
    chosen = images[np.asarray(found[True].labels)] / np.float32(255)
    exact = augment(stream_key(0, "augment", np.int32(0)), chosen - fitted.mean[None])
    np.testing.assert_allclose(found[True].images, exact, atol=1e-6)
    np.testing.assert_array_equal(found[True].labels, found[False].labels)
    assert (np.asarray(found[True].images) == 0).sum() > 0
    assert np.abs(np.asarray(found[False].images) - found[True].images).max() > 0.1
