"""Alternating flips: each image once as it is and once mirrored in two epochs, whatever the batch and the devices."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtrain.augment.example_epochs import batch_epochs, count_epochs
from jaxtrain.augment.geometry import alternating_flip_lr, pad_crop
from jaxtrain.augment.pipeline import pipeline
from jaxtrain.config import DataConfig
from jaxtrain.data.splits import fit_normalization, read_splits
from jaxtrain.errors import ConfigError
from jaxtrain.step_context import narrow_context
from jaxtrain.training.inputs import make_loader, make_order, make_stream, place_splits
from jaxtrain.training.plan import make_plan
from tests.conftest import tiny_config

COUNT, BATCH = 60, 16
IMAGES = np.random.RandomState(0).randint(0, 256, (COUNT, 4, 5, 3)).astype(np.uint8)
FLIP = pipeline([alternating_flip_lr()])


def augmented(indices: Any, step: int, key: int = 0) -> np.ndarray:
    @jax.jit
    def run(images: jax.Array, step: jax.Array) -> jax.Array:
        with narrow_context(epochs=count_epochs(jax.random.key(key), images, step, BATCH, COUNT)):
            return FLIP(jax.random.fold_in(jax.random.key(9), step), images)

    return np.asarray(run(IMAGES[indices], np.int32(step)))


def mirrored(indices: Any, images: np.ndarray) -> np.ndarray:
    """bool[N]: which images are mirrored; all others must be as they are."""
    as_is = (images == IMAGES[indices]).all(axis=(1, 2, 3))
    np.testing.assert_array_equal((images == IMAGES[indices][:, :, ::-1]).all(axis=(1, 2, 3)), ~as_is)
    found: np.ndarray = ~as_is
    return found


def epochs_of_flips(epochs: int) -> np.ndarray:
    """bool[epochs, COUNT], by image, of a run that shuffles each epoch, in batches that span two."""
    order = np.concatenate([np.random.RandomState(e).permutation(COUNT) for e in range(epochs)])
    flips = np.zeros((epochs, COUNT), bool)
    for step in range(len(order) // BATCH):
        positions = np.arange(step * BATCH, (step + 1) * BATCH)
        flips[positions // COUNT, order[positions]] = mirrored(order[positions], augmented(order[positions], step))
    return flips


def test_alternating_flip_alternates_each_image_and_half_begin_mirrored() -> None:
    flips = epochs_of_flips(4)
    np.testing.assert_array_equal(flips[1], ~flips[0])
    np.testing.assert_array_equal(flips[2], flips[0])
    np.testing.assert_array_equal(flips[3], ~flips[0])
    assert 18 <= flips[0].sum() <= 42  # 30 and 3 deviations


def test_alternating_flip_start_depends_on_the_seed() -> None:
    found = [mirrored(range(BATCH), augmented(np.arange(BATCH), 0, key)) for key in (0, 1)]
    assert (found[0] != found[1]).any()


@given(size=st.integers(1, 70), examples=st.integers(1, 70), step=st.integers(0, 400))
def test_batch_epochs_equal_integer_division_of_positions(size: int, examples: int, step: int) -> None:
    found = np.asarray(batch_epochs(jnp.int32(step), jnp.arange(70, dtype=jnp.int32), size, examples))[:size]
    assert found.tolist() == [(step * size + i) // examples for i in range(size)]


def test_batch_epochs_are_exact_in_long_runs() -> None:
    """Positions exceed the range of int32."""
    step = 2_000_000_000
    assert np.asarray(batch_epochs(jnp.int32(step), jnp.arange(1024, dtype=jnp.int32), 1024, 50_000)).tolist() == [
        (step * 1024 + i) // 50_000 for i in range(1024)
    ]
    with pytest.raises(ValueError, match="2000000000 examples in batches of 3 overflow the int32 positions"):
        batch_epochs(jnp.int32(0), jnp.arange(3, dtype=jnp.int32), 3, 2_000_000_000)


def test_alternating_flip_outside_training_is_a_random_flip() -> None:
    flips = [mirrored(range(COUNT), np.asarray(FLIP(jax.random.key(seed), IMAGES))) for seed in range(2)]
    assert all(15 <= f.sum() <= 45 for f in flips)
    assert (flips[0] != flips[1]).any()


def test_epoch_context_does_not_change_other_augmentations() -> None:
    crop, key = pad_crop(2), jax.random.key(3)
    with_sightings = pipeline([crop])
    with narrow_context(epochs=count_epochs(jax.random.key(0), jnp.asarray(IMAGES), jnp.int32(0), COUNT, COUNT)):
        found = with_sightings(key, jnp.asarray(IMAGES))
    np.testing.assert_array_equal(found, pipeline([crop])(key, jnp.asarray(IMAGES)))


# Alternating flips in a run.


def config(**data: Any) -> Any:
    settings: dict[str, Any] = {
        "dataset": "synthetic(height=4, width=4, channels=1, num_classes=3, train_examples=20, test_examples=5)",
        "batch_size": 8,
        "augment": "alternating_flip_lr",
        "normalize": "scale",
    }
    devices = data.pop("devices", 1)
    return tiny_config(data=DataConfig(**{**settings, **data}), devices=devices, train_for="10 steps", model="linear")


def batches(**options: Any) -> list[np.ndarray]:
    plan = make_plan(config(**options))
    splits = read_splits(plan.splits, ("train",), 0)
    normalization = fit_normalization(plan.splits, splits["train"])
    train = place_splits(plan.splits, plan.layout, splits)["train"]
    examples = train.training_batches(functools.partial(make_stream, plan))
    run, order = jax.jit(make_loader(plan, normalization)), make_order(plan)
    found = []
    for step in range(10):  # four epochs
        number = jax.device_put(np.int32(step), plan.layout.replicated)
        found.append(np.asarray(run(examples(step), order.order(step), number).images))
    examples.close()
    return found


@functools.cache
def expected() -> list[np.ndarray]:
    return batches()


def test_alternating_flip_run_shows_every_image_both_ways_in_two_epochs() -> None:
    shown = np.concatenate(expected()).reshape(4, 20, 4, 4)
    for first, second in ((0, 1), (1, 2), (2, 3)):
        a = {image.tobytes() for image in shown[first]}
        b = {np.ascontiguousarray(image[:, ::-1]).tobytes() for image in shown[second]}
        assert a == b
    assert {image.tobytes() for image in shown[0]} == {image.tobytes() for image in shown[2]}
    assert {image.tobytes() for image in shown[0]} != {image.tobytes() for image in shown[1]}


@pytest.mark.parametrize("options", [{"devices": 2}, {"stream": True, "workers": 2}, {"normalize_first": True}])
def test_alternating_flip_is_independent_of_devices_streaming_and_normalization(options: Any) -> None:
    for a, b in zip(batches(**options), expected(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_alternating_flip_refuses_random_decode_transforms(tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match=r"identifies an example by its pixels, but data.decode changes") as error:
        make_plan(config(decode="random_crop(4)"))
    assert error.value.path == "data.augment"
    make_plan(config(decode="center_crop(4)"))
