"""`jaxtrain show` shows the batches that a run trains on."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxtrain.analysis import batch_images
from jaxtrain.analysis.class_balance import ClassBalance, class_balance
from jaxtrain.analysis.data_preview import label_parts, preview_data
from jaxtrain.config import DataConfig
from jaxtrain.data.loader import Batch
from jaxtrain.data.source import ArraySource
from jaxtrain.data.splits import load_splits
from jaxtrain.errors import ConfigError
from jaxtrain.run import compiled_run as tools
from jaxtrain.run import fit
from jaxtrain.training.plan import Plan, make_plan
from tests.conftest import tiny_config

SEED, STEPS, SIZE = 3, 12, 16
DATA = tiny_config().data.replace(augment="flip_lr|pad_crop(1)|cutout(2, fill=1.0)")
Batches = dict[int, tuple[np.ndarray, np.ndarray]]


@functools.cache
def make_show_plan(**data: Any) -> Plan:
    return make_plan(tiny_config(data=DATA.replace(**data), seed=SEED))


@functools.cache
def train_split() -> ArraySource:
    return load_splits(make_show_plan().splits, ("train",), SEED)["train"]


@pytest.fixture(scope="module")
def training_batches(tmp_path_factory: pytest.TempPathFactory) -> Batches:
    """Return images and labels by step as a run on four devices trained on them."""
    seen: Batches = {}
    make_loader = tools.make_loader

    def make_recording_loader(plan: Any, normalization: Any) -> Any:
        load = make_loader(plan, normalization)

        def load_and_record(arrays: Any, order: Any, number: jax.Array) -> Batch:
            batch: Batch = load(arrays, order, number)
            jax.debug.callback(lambda n, x, y: seen.update({int(n): (np.array(x), np.array(y))}), number, *batch)
            return batch

        return load_and_record

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tools, "make_loader", make_recording_loader)
        fit.fit(tiny_config(data=DATA, seed=SEED, devices=4), tmp_path_factory.mktemp("run") / "run")
    jax.effects_barrier()
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, 4, 11])  # the first step, one across two epochs, the last
def test_preview_data_shows_the_batch_of_the_training_step(step: int, training_batches: Batches) -> None:
    found = preview_data(make_show_plan(), "train", step)
    images, labels = training_batches[step]
    train = train_split().images / 255
    exact = 255 * (images.astype(np.float64) * train.std() + train.mean())
    assert np.abs(exact - np.rint(exact)).max() < 0.01
    np.testing.assert_array_equal(found.after, np.rint(exact))
    assert found.captions == tuple((str(label),) for label in labels)


@pytest.mark.parametrize("step", [0, 4, 11])
def test_preview_data_shows_the_examples_of_the_batch_before_augmentation(step: int) -> None:
    """The expected order is computed from its definition: one permutation per epoch."""
    epochs = [np.random.RandomState([SEED, 0x33FE5971, epoch]).permutation(80) for epoch in range(3)]
    chosen = np.concatenate(epochs)[step * SIZE : (step + 1) * SIZE]
    found = preview_data(make_show_plan(), "train", step, 10)
    np.testing.assert_array_equal(found.before, train_split().images[chosen][:10])
    assert len(found.after) == len(found.captions) == 10
    assert (found.before != found.after).any(axis=(1, 2, 3)).sum() > 5


@pytest.mark.parametrize(
    "data",
    [
        {"normalize": "zca(epsilon=0.01)"},
        {"normalize": "whiten", "pad": 1},
        {"normalize": "mean_image", "batch_size": "all"},
        {"normalize": "standardize", "normalize_first": True, "resize": (5, 3)},
    ],
    ids=lambda data: data["normalize"].partition("(")[0],
)
def test_preview_data_inverts_the_preprocessing(data: dict[str, Any]) -> None:
    found = preview_data(make_show_plan(augment=(), **data))
    np.testing.assert_array_equal(found.after, found.before)
    assert found.before.min() < 50
    assert found.before.max() > 200


def test_preview_data_shows_images_without_omitted_pca_components() -> None:
    found = preview_data(make_show_plan(augment=(), normalize="pca(2)"), examples=16)
    assert np.linalg.matrix_rank(found.before.reshape(16, 16).astype(float)) > 10
    centered = found.after.reshape(16, 16) - 255.0 * (train_split().images / 255).mean(axis=0).ravel()
    assert (np.linalg.svd(centered, compute_uv=False)[2:] < 5).all()  # rounding errors of 256 pixels


@pytest.mark.parametrize(("split", "size"), [("validation", 16), ("test", 20)])
def test_preview_data_samples_evaluation_splits_evenly_without_augmentation(split: str, size: int) -> None:
    source = load_splits(make_show_plan().splits, (split,), SEED)[split]
    found = preview_data(make_show_plan(), split, examples=5)
    chosen = [size * i // 5 for i in range(5)]
    np.testing.assert_array_equal(found.before, source.images[chosen])
    np.testing.assert_array_equal(found.after, found.before)
    assert found.captions == tuple((str(label),) for label in source.labels[chosen])
    assert "augmentation: none in evaluation" in found.lines
    assert len(preview_data(make_show_plan(), split).before) == size


@pytest.mark.slow
def test_preview_data_describes_the_input_of_the_model(training_batches: Batches) -> None:
    lines = preview_data(make_show_plan(), "train", 7).lines
    images = training_batches[7][0].astype(np.float64)
    assert lines[0] == "data: synthetic, 80 train, 16 validation, 20 test; 4x4x1 images, 3 classes"
    assert lines[1].startswith("augmentation: flip_lr(probability=0.5) | pad_crop(")
    assert lines[2] == "preprocessing: mean_std, fitted on the training split"
    assert lines[3] == (
        f"the model sees: float32[16, 4, 4, 1], values from {images.min():.3g} to {images.max():.3g}, "
        f"mean {images.mean():.3g}, std {images.std():.3g}"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("tset",), "--split: the run has no split 'tset'; did you mean 'test'"),
        (("train", STEPS), "--step: the run has no step 12; its 12 steps are counted from 0 to 11"),
        (("train", -1), "--step: the run has no step -1"),
        (("test", 1), "--step: steps are batches of training"),
        (("train", 0, 17), "--examples: 17 examples cannot be shown; a training batch has 16"),
        (("test", 0, 21), "--examples: 21 examples cannot be shown; the test split has 20"),
        (("test", 0, 0), "--examples: 0 examples"),
    ],
)
def test_preview_data_refuses_missing_splits_steps_and_examples(arguments: tuple[Any, ...], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        preview_data(make_show_plan(), *arguments)
    assert says in str(error.value)


def test_preview_data_shows_mixed_labels_and_warns_of_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = np.array([[0.7, 0.3, 0.0], [0.0, 1.0, 0.0]] * 8, np.float32)
    make_loader = batch_images.make_loader

    def mixing(*arguments: Any) -> Any:
        load = make_loader(*arguments)

        def mixed(*inputs: Any) -> Batch:
            return Batch(load(*inputs).images.at[0, 0, 0, 0].set(jnp.nan), jnp.asarray(weights))

        return mixed

    monkeypatch.setattr(batch_images, "make_loader", mixing)
    found = preview_data(make_show_plan())
    assert found.captions[:2] == (("0 0.70", "1 0.30"), ("1",))
    assert found.after[0, 0, 0, 0] == 0
    assert found.warnings == ("1 of the values of the model inputs are not finite",)


@pytest.mark.parametrize(
    ("weights", "parts"),
    [
        ([0.3, 0.7, 0], ("dog 0.70", "cat 0.30")),
        ([0, 0, 1], ("bird",)),
        ([0.999, 0.001, 0], ("cat",)),
        ([0.97, 0.0, 0.03], ("cat 0.97", "bird 0.03")),
        ([0.5, 0, 0.5], ("cat 0.50", "bird 0.50")),
        ([0.9, 0, 0], ("cat 0.90",)),
        ([1, 1, 0], ("cat 1.00", "dog 1.00")),
    ],
)
def test_the_caption_of_a_mixed_label_names_its_classes(weights: list[float], parts: tuple[str, ...]) -> None:
    assert label_parts(np.array(weights, np.float32), ("cat", "dog", "bird")) == parts


def test_the_caption_of_a_mixed_label_sums_small_weights() -> None:
    smoothed = np.full(10, 0.01, np.float32)
    smoothed[4] = 0.91
    assert label_parts(smoothed, tuple("abcdefghij")) == ("e 0.91", "a 0.01", "b 0.01", "others 0.07")


def test_class_balance_counts_every_split() -> None:
    found = preview_data(make_show_plan()).balance
    assert list(found.counts) == ["train", "validation", "test"]
    assert found.totals == {"train": 80, "validation": 16, "test": 20}
    assert found.counts["train"] == tuple(int((train_split().labels == i).sum()) for i in range(3))
    assert found.warnings() == []


def test_class_balance_warns_of_empty_and_uneven_classes() -> None:
    def balance(*counts: int) -> ClassBalance:
        labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
        names = tuple("abcdefghij"[: len(counts)])
        return class_balance(names, {"train": ArraySource(np.zeros((len(labels), 1, 1, 1), np.uint8), labels)})

    assert balance(100, 10).warnings() == []
    assert balance(101, 10, 20).warnings() == [
        "the training split has 101 examples of 'a' and 10 of 'b': 10.1 times as many"
    ]
    assert balance(0, 1, 11).warnings() == [
        "1 of 3 classes have no example in the training split: 'a'",
        "the training split has 11 examples of 'c' and 1 of 'b': 11.0 times as many",
    ]
    assert balance(3, 0, 0, 0, 0, 0, 0, 0).warnings()[0].endswith("'b', 'c', 'd', 'e', 'f' and 2 more")


def test_class_balance_lists_the_most_and_least_frequent_of_many_classes() -> None:
    counts = {"train": tuple(range(100, 0, -1)), "test": tuple(range(100))}
    names = tuple(f"c{i}" for i in range(100))
    found = ClassBalance(names, counts)
    assert found.listed.names == (*names[:20], *names[80:])
    assert found.listed.counts["test"] == (*range(20), *range(80, 100))
    assert found.totals == {"train": 5050, "test": 4950}
    assert "20 most and 20 least frequent of 100" in found.title
    few = ClassBalance(names[:40], {"train": (1,) * 40})
    assert few.listed is few


def test_preview_data_shows_streamed_images(tmp_path: Path) -> None:
    """The preview shows the streamed batch of a step and, beside each image, the image prepared for evaluation."""
    rng = np.random.default_rng(0)
    for i in range(12):
        folder = tmp_path / ("train" if i < 9 else "val") / f"class{i % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (12 + i, 20 - i, 3)).astype(np.uint8)).save(folder / f"{i}.png")
    data = DataConfig(dataset="image_folder(size=[8, 8])", batch_size=4, decode="random_resized_crop(8)")
    plan = make_plan(tiny_config(data=data), tmp_path)
    shown = preview_data(plan, step=1)
    assert shown.before.shape == shown.after.shape == (4, 8, 8, 3)
    assert shown.balance.counts["train"] == (3, 3, 3)
    assert any(line.startswith("at decoding: random_resized_crop") for line in shown.lines)
    np.testing.assert_array_equal(shown.after, preview_data(plan, step=1).after)
    assert not np.array_equal(shown.before, shown.after)
    shown = preview_data(plan, "test", examples=3)
    assert shown.captions == (("class0",), ("class1",), ("class2",))
