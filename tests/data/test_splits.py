"""The splits of a run: disjoint, exhaustive, seeded, of exact size; validation images do not enter the fit."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtrain.config import DataConfig
from jaxtrain.data.dataset import Dataset
from jaxtrain.data.source import ArraySource
from jaxtrain.data.splits import SplitPlan, fit_normalization, load_splits, plan_splits, validation_indices
from jaxtrain.errors import ConfigError

TOTAL, HELD_OUT, TEST = 30, 8, 5


def numbered_dataset(poison: tuple[int, ...] = (), read: list[str] | None = None) -> Dataset:
    """Return a dataset whose image i has value i + 1 and label i; the poisoned ones are white."""

    def load(split: str) -> ArraySource:
        if read is not None:
            read.append(split)
        count = TOTAL if split == "train" else TEST
        images = np.broadcast_to(np.arange(1, count + 1, dtype=np.uint8)[:, None, None, None], (count, 4, 6, 1)).copy()
        if split == "train":
            images[list(poison)] = 255
        return ArraySource(images, np.arange(count, dtype=np.int32))

    sizes = {"train": TOTAL, "test": TEST}
    names = tuple(map(str, range(TOTAL)))
    return Dataset(name="numbered", num_classes=TOTAL, image_shape=(4, 6, 1), sizes=sizes, class_names=names, read=load)


def plan(dataset: Dataset, **changes: Any) -> SplitPlan:
    config = DataConfig(dataset="digits", batch_size=4, validation=f"{HELD_OUT} examples").replace(**changes)
    sizes = {"train": TOTAL - HELD_OUT, "validation": HELD_OUT, "test": TEST}
    if config.validation is None:
        sizes = {"train": TOTAL, "test": TEST}
    return SplitPlan(dataset, config, (4, 6, 1), sizes)


ALL = ("train", "validation", "test")


@given(
    st.integers(2, 200).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n - 1))), st.integers(-(2**40), 2**40)
)
def test_split_indices_are_disjoint_exhaustive_ascending_and_of_exact_size(sizes: tuple[int, int], seed: int):
    total, held_out = sizes
    training, validation = validation_indices(total, held_out, seed)
    assert (len(training), len(validation)) == (total - held_out, held_out)
    np.testing.assert_array_equal(np.sort(np.concatenate([training, validation])), np.arange(total))
    assert (np.diff(training) > 0).all()
    assert (np.diff(validation) > 0).all()


def test_split_indices_depend_on_the_seed_only_and_never_change():
    """They come from numpy's `RandomState`, whose stream is frozen; another split would change every run."""
    assert validation_indices(10, 3, 0)[1].tolist() == sorted(np.random.RandomState(0).permutation(10)[:3]) == [2, 4, 8]
    drawn = {tuple(validation_indices(100, 10, seed)[1]) for seed in range(20)}
    assert len(drawn) == 20


@pytest.mark.slow
def test_every_example_has_an_equal_chance_of_being_in_validation():
    """2,000 seeds, 3 of 10: each count within six standard deviations, a chance of 2e-8 over all ten."""
    counts = np.bincount(np.concatenate([validation_indices(10, 3, seed)[1] for seed in range(2000)]), minlength=10)
    assert np.abs(counts - 600).max() < 6 * (2000 * 0.3 * 0.7) ** 0.5


def test_loaded_splits_have_the_images_and_labels_of_their_indices():
    splits = load_splits(plan(numbered_dataset()), ALL, seed=3)
    training, validation = validation_indices(TOTAL, HELD_OUT, 3)
    for split, indices in (("train", training), ("validation", validation), ("test", np.arange(TEST))):
        np.testing.assert_array_equal(splits[split].labels, indices)
        np.testing.assert_array_equal(splits[split].images[:, 0, 0, 0], indices + 1)


def test_without_validation_the_run_trains_on_the_whole_training_split():
    splits = load_splits(plan(numbered_dataset(), validation=None), ("train", "test"), seed=3)
    np.testing.assert_array_equal(splits["train"].labels, np.arange(TOTAL))
    assert set(splits) == {"train", "test"}


@pytest.mark.parametrize(
    ("names", "expected"), [(("test",), ["test"]), (("validation",), ["train"]), (("train", "validation"), ["train"])]
)
def test_load_splits_reads_only_the_files_of_the_requested_splits(names: tuple[str, ...], expected: list[str]):
    read: list[str] = []
    assert set(load_splits(plan(numbered_dataset(read=read)), names, seed=0)) == set(names)
    assert read == expected


def test_the_normalization_ignores_validation_images_test_images_and_padding():
    seed = 4
    training, validation = validation_indices(TOTAL, HELD_OUT, seed)

    def fit(poison: tuple[int, ...], **changes: Any) -> Any:
        chosen = plan(numbered_dataset(poison), **changes)
        return fit_normalization(chosen, load_splits(chosen, ("train",), seed)["train"])

    clean = fit(())
    shown = (training + 1) / 255  # images are constant, so the mean over images is the mean over pixels
    np.testing.assert_allclose((clean.mean[0], clean.std[0]), (shown.mean(), shown.std()), rtol=1e-12)
    assert fit(tuple(validation)) == clean
    assert fit((), pad=5) == clean
    assert fit((training[0],)) != clean  # a poisoned training image changes the fit


def test_resize_and_pad_give_every_split_the_planned_image_shape():
    config = DataConfig(dataset="digits", batch_size=4, validation="10%", resize=(5, 7), pad=2)
    announced = plan_splits(config, None)
    chosen = dataclasses.replace(plan(numbered_dataset(), resize=(5, 7), pad=2), image_shape=announced.image_shape)
    for split in load_splits(chosen, ALL, seed=0).values():
        source = split.pad(chosen.config.pad)
        assert source.images.shape[1:] == chosen.image_shape == (9, 11, 1)
        assert not source.images[:, :2].any()
        assert source.images[:, 2:-2, 2:-2].all()


@pytest.mark.parametrize(
    ("validation", "held_out"), [(None, 0), ("1 examples", 1), ("100 examples", 100), ("10%", 144), ("0.1%", 1)]
)
def test_plan_splits_gives_the_sizes_of_all_splits(validation: str | None, held_out: int):
    sizes = plan_splits(DataConfig(dataset="digits", batch_size=4, validation=validation), None).sizes
    expected = {"train": 1437 - held_out, "validation": held_out, "test": 360}
    assert sizes == {k: v for k, v in expected.items() if v}


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"validation": "1437 examples"}, "data.validation", "reserves 1437 of the 1437 training examples"),
        ({"validation": "0%"}, "data.validation", "reserves 0 of the 1437"),
        ({"validation": "1 epochs"}, "data.validation", "not an amount of data"),
        ({"validation": "1400 examples", "batch_size": 38}, "data.batch_size", "which has 37 examples"),
    ],
)
def test_impossible_split_sizes_are_refused(changes: dict[str, Any], path: str, message: str):
    with pytest.raises(ConfigError, match=message) as error:
        plan_splits(DataConfig(**{"dataset": "digits", "batch_size": 4, **changes}), None)
    assert error.value.path == path
