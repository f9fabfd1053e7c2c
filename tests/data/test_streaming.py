"""The streaming loader: the same batches for any number of threads, the order of the in-memory loader, and the error
for images that cannot be decoded.
"""

import contextlib
import functools
import io
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jaxtrain.augment.decode.chain import compose_transforms
from jaxtrain.augment.decode.crops import random_resized_crop
from jaxtrain.augment.decode.sizes import flip_lr
from jaxtrain.augment.decode.window import full_window
from jaxtrain.config import DataConfig
from jaxtrain.data.dataset import Dataset
from jaxtrain.data.device_stream import TrainingStream
from jaxtrain.data.encoded import Encoded, EncodedSource, wrap_as_encoded
from jaxtrain.data.epoch_shuffle import EpochShuffle
from jaxtrain.data.example_order import PermutationOrder
from jaxtrain.data.loader import batch_indices
from jaxtrain.data.prefetch import BatchGroups
from jaxtrain.data.source import ArraySource
from jaxtrain.data.sources.image_folder import image_folder
from jaxtrain.data.splits import fit_normalization, load_splits, plan_splits, stream_splits
from jaxtrain.data.streaming import StreamedSplit
from jaxtrain.distributed.mesh import make_layout
from jaxtrain.errors import ConfigError, DataError
from jaxtrain.random import example_generator, host_generator

COUNT, BATCH, STEPS = 21, 10, 5
CROP = compose_transforms([random_resized_crop(6), flip_lr()])


def jpeg(index: int, size: tuple[int, int] = (24, 18)) -> bytes:
    coarse = np.random.RandomState(index).randint(0, 256, (4, 4, 3)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize(size).save(stream, "JPEG")
    return stream.getvalue()


PICTURES = [jpeg(i, (12 + i % 5, 9 + i % 7)) for i in range(COUNT)]


def bytes_source(read: Callable[[int], Encoded] = lambda i: Encoded(PICTURES[i], i, f"picture {i}")) -> EncodedSource:
    return EncodedSource(COUNT, read, 3)


def make_split(source: EncodedSource, workers: int = 2) -> StreamedSplit:
    return StreamedSplit("a set", source, compose_transforms(CROP.parts), COUNT, workers)


@contextlib.contextmanager
def open_stream(source: EncodedSource, workers: int, devices: int = 1, seed: int = 0) -> Iterator[TrainingStream]:
    order = PermutationOrder(functools.partial(host_generator, seed, "shuffle"), COUNT)
    divided = make_layout(devices, BATCH).batch
    split = make_split(source, workers)
    stream = TrainingStream(
        split, CROP, functools.partial(example_generator, seed, "host"), order, BATCH, STEPS, divided
    )
    with contextlib.closing(stream):
        yield stream


def batches(workers: int, steps: range = range(STEPS), **options: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    with open_stream(bytes_source(), workers, **options) as stream:
        return [(np.asarray(images), np.asarray(labels)) for images, labels in map(stream, steps)]


def assert_same(found: Any, expected: Any) -> None:
    for (images, labels), (wanted, of_wanted) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(images, wanted)
        np.testing.assert_array_equal(labels, of_wanted)


@pytest.fixture(scope="module")
def expected() -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the batches that the main thread makes without workers."""
    return batches(0)


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_threads_does_not_change_the_batches(expected: Any, workers: int) -> None:
    assert_same(batches(workers), expected)


def test_the_number_of_devices_changes_only_the_sharding_of_batches(expected: Any) -> None:
    assert_same(batches(2, devices=2), expected)
    with open_stream(bytes_source(), 1, devices=2) as stream:
        assert stream(0).images.sharding == make_layout(2, BATCH).batch


def test_a_streamed_batch_depends_on_its_step_only(expected: Any) -> None:
    for first in (1, STEPS - 1):
        assert_same(batches(2, range(first, STEPS)), expected[first:])
    with open_stream(bytes_source(), 2) as stream:  # forward and backward
        assert_same([stream(step) for step in (3, 0, 1, 4)], [expected[step] for step in (3, 0, 1, 4)])


def test_every_example_is_decoded_with_its_own_random_numbers(expected: Any) -> None:
    assert not any((a == b).all() for a, b in zip(expected[0][0], batches(0, seed=1)[0][0], strict=True))
    large = jpeg(0, (200, 150))
    same = EncodedSource(COUNT, lambda index: Encoded(large, index, "one"), 3)
    with open_stream(same, 0) as stream:
        images = np.concatenate([stream(step).images for step in range(STEPS)])
    assert len({image.tobytes() for image in images}) == BATCH * STEPS


def test_decode_transforms_use_the_random_stream_of_step_and_position(expected: Any) -> None:
    """Compute the example at position 3 of step 2 with Pillow."""
    position = 2 * BATCH + 3
    index = host_generator(0, "shuffle", position // COUNT).permutation(COUNT)[position % COUNT]
    with Image.open(io.BytesIO(PICTURES[index])) as image:
        numbers = np.random.RandomState(np.random.Philox(key=[0, 0xCF2713FD], counter=[0, 0, 3, 2]))
        wanted = image
        for part in CROP.parts:
            wanted = part(numbers, wanted)
        np.testing.assert_array_equal(expected[2][0][3], np.asarray(wanted))
    assert expected[2][1][3] == index


def test_the_streamed_order_equals_that_of_the_loader_in_memory() -> None:
    draw = functools.partial(host_generator, 4, "shuffle")
    shuffle, order = EpochShuffle(draw, COUNT, BATCH, make_layout(1, 1).replicated), PermutationOrder(draw, COUNT)
    for step in range(12):
        wanted = batch_indices(shuffle.order(step), np.int32(step), BATCH)  # type: ignore[arg-type]
        assert order.at(range(step * BATCH, (step + 1) * BATCH)).tolist() == np.asarray(wanted).tolist()


def test_threads_that_reach_an_epoch_together_draw_its_order_once() -> None:
    drawn: list[int] = []
    together = threading.Barrier(6)

    def draw(epoch: int) -> np.random.RandomState:
        drawn.append(epoch)
        time.sleep(0.05)
        return host_generator(4, "shuffle", epoch)

    order = PermutationOrder(draw, COUNT)

    def look() -> None:
        together.wait()
        order.at(range(COUNT - 2, COUNT + 2))

    threads = [threading.Thread(target=look) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert drawn == [0, 1]


@given(count=st.integers(1, 60), size=st.integers(1, 40))
def test_batch_groups_split_every_batch_into_pieces(count: int, size: int) -> None:
    groups = BatchGroups(count, size)
    pieces = [groups.positions(number) for number in range(groups.total)]
    assert [position for piece in pieces for position in piece] == list(range(count))
    assert all(len({position // size for position in piece}) == 1 and len(piece) <= 8 for piece in pieces)
    assert sum(map(groups.of_batch, range(groups.batches))) == groups.total


def prefetch_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "grain-prefetch" in thread.name]


def test_prefetch_threads_read_ahead_and_end_with_the_stream() -> None:
    read: set[int] = set()

    def note(index: int) -> Encoded:
        read.add(index)
        return Encoded(PICTURES[index], index, "a picture")

    with open_stream(bytes_source(note), 2) as stream:
        stream(0)
        deadline = time.monotonic() + 20
        while len(read) < COUNT and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(read) == COUNT  # two batches after the first complete an epoch
        assert prefetch_threads()
    while prefetch_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not prefetch_threads()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("content", "says"), [
    (b"no image", "picture 7 cannot be decoded"),
    (PICTURES[7][:-60], "picture 7 cannot be decoded"),
    (Path("gone.jpg"), "picture 7 cannot be read: No such file"),
])  # fmt: skip
def test_a_damaged_image_is_named(workers: int, content: Any, says: str) -> None:
    source = bytes_source(lambda i: Encoded(content if i == 7 else PICTURES[i], i, f"picture {i}"))
    with open_stream(source, workers) as stream, pytest.raises(DataError, match=says):
        list(map(stream, range(3)))  # the whole epoch


def test_a_label_out_of_range_in_encoded_images_is_named() -> None:
    source = bytes_source(lambda i: Encoded(PICTURES[i], COUNT if i == 3 else i, "p"))
    with pytest.raises(DataError, match=r"a set: label 21 of example 3 is out of range; with 21 classes"):
        next(make_split(source, 1).chunks(COUNT))


# Splits of a config.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write images of several sizes and modes in two classes."""
    root = tmp_path_factory.mktemp("pictures")
    for split, count in (("train", 9), ("val", 3)):
        for name in ("ant", "bee"):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                path = root / split / name / f"{i}.jpg"
                path.write_bytes(jpeg(10 * count + i, (20 + i, 30 - i)))
        Image.new("L", (7, 3), 90).save(root / split / "ant" / "grey.png")
        Image.new("RGBA", (3, 9), (1, 2, 3, 4)).save(root / split / "bee" / "clear.png")
    return root


def config(**changes: Any) -> DataConfig:
    settings: dict[str, Any] = {
        "dataset": "image_folder(size=[12, 10])",
        "batch_size": 4,
        "validation": "4 examples",
        "decode": "fit(12, 10)",
        "workers": 2,
    }
    return DataConfig(**{**settings, **changes})


def in_memory(**changes: Any) -> DataConfig:
    return config(decode=(), workers=None, **changes)


NAMES = ("train", "validation", "test")


@pytest.mark.parametrize("size", [3, 100])
def test_a_decoded_split_equals_the_split_in_memory(folder: Path, size: int) -> None:
    held = load_splits(plan_splits(in_memory(), folder), NAMES, seed=5)
    split = stream_splits(plan_splits(config(), folder), NAMES, seed=5)
    assert plan_splits(config(), folder).image_shape == (12, 10, 3)
    for name in NAMES:
        assert len(split[name]) == len(held[name])
        found = list(split[name].chunks(size))
        np.testing.assert_array_equal(np.concatenate([c.images for c in found]), held[name].images)
        np.testing.assert_array_equal(np.concatenate([c.labels for c in found]), held[name].labels)


@pytest.mark.parametrize("normalize", ["mean_std", "zca(epsilon=0.1)"])
def test_preprocessing_fitted_on_a_decoded_split_equals_that_in_memory(folder: Path, normalize: str) -> None:
    found = []
    for data, read in ((config(normalize=normalize), stream_splits), (in_memory(normalize=normalize), load_splits)):
        plan = plan_splits(data, folder)
        found.append(fit_normalization(plan, read(plan, ("train",), 0)["train"]))
    for a, b in zip(jax.tree.leaves(vars(found[0])), jax.tree.leaves(vars(found[1])), strict=True):
        np.testing.assert_array_equal(a, b)


def test_scale_preprocessing_reads_no_image(folder: Path) -> None:
    plan = plan_splits(config(normalize="scale"), folder)

    def never(index: int) -> Encoded:
        raise AssertionError(index)

    fitted: Any = fit_normalization(plan, make_split(EncodedSource(COUNT, never, 3)))
    assert (fitted.mean, fitted.std) == ((0, 0, 0), (1, 1, 1))


def test_image_folder_streams_images_at_their_original_size(folder: Path) -> None:
    source = image_folder(directory=folder).stream("train")
    sizes: list[Any] = []
    for index in range(len(source)):
        source.example(index, lambda size: sizes.append(size) or CROP.window(np.random.RandomState(0), size))  # type: ignore[func-returns-value]
    assert sizes[:9] == [(20 + i, 30 - i) for i in range(9)]


def test_arrays_can_be_streamed_like_encoded_images(folder: Path) -> None:
    images = np.random.RandomState(0).randint(0, 256, (5, 6, 4, 1)).astype(np.uint8)
    arrays = ArraySource(images, np.arange(5, dtype=np.int32))
    data = Dataset(name="n", num_classes=5, image_shape=(6, 4, 1), sizes={"train": 5}, class_names=tuple("abcde"),
                   read=lambda split: arrays)  # fmt: skip
    split = StreamedSplit("n", data.stream("train"), compose_transforms(CROP.parts), 5, 0)
    assert next(split.chunks(5)).images.shape == (5, 6, 6, 1)
    found = [wrap_as_encoded("n", arrays).example(i, full_window) for i in range(5)]
    np.testing.assert_array_equal(np.stack([e.image for e in found]), images)
    with pytest.raises(DataError, match="no split 'test'"):
        data.stream("test")


@pytest.mark.parametrize(("changes", "path", "says"), [
    ({"decode": "flip_lr"}, "data.decode", "end the transforms with random_crop"),
    ({"decode": "resize_short(9, 8)"}, "data.decode.0", "lower bound first"),
    ({"decode_eval": "random_crop((12, 10))"}, "data.decode_eval", "random_crop draws at random"),
    ({"decode_eval": "center_crop(12)"}, "data.decode_eval", "produces images of 12x12, but data.decode of 12x10"),
    ({"resize": [12, 10]}, "data.resize", "add resize"),
    ({"pad": 2}, "data.pad", "pad in data.augment"),
    ({"batch_size": "all"}, "data.batch_size", "must be in memory"),
    ({"decode": "", "workers": 2}, "data.workers", "set data.decode too"),
    ({"decode": "", "workers": None, "decode_eval": "fit(12, 10)"}, "data.decode_eval", "set data.decode too"),
])  # fmt: skip
def test_settings_that_exclude_decoding_are_refused(
    folder: Path, changes: dict[str, Any], path: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        plan_splits(config(**changes), folder)
    assert error.value.path == path
