"""Streaming of stored arrays: the same batches as in memory for any number of threads, process shares and orders."""

import contextlib
import functools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtrain.augment.decode.chain import compose_transforms
from jaxtrain.augment.decode.crops import random_resized_crop
from jaxtrain.config import DataConfig
from jaxtrain.data import prefetch as ahead
from jaxtrain.data.device_stream import TrainingStream
from jaxtrain.data.encoded import wrap_as_encoded
from jaxtrain.data.epoch_shuffle import EpochShuffle
from jaxtrain.data.example_order import ExampleOrder, IndexOrder, IndexShuffle, PermutationOrder
from jaxtrain.data.loader import batch_indices
from jaxtrain.data.prefetch import BatchGroups
from jaxtrain.data.source import ArraySource
from jaxtrain.data.splits import fit_normalization, load_splits, plan_splits, stream_splits
from jaxtrain.data.stored import StoredSource, wrap_as_stored
from jaxtrain.data.streaming import StreamedSplit
from jaxtrain.distributed.mesh import make_layout
from jaxtrain.errors import ConfigError, DataError
from jaxtrain.random import example_generator, host_generator
from jaxtrain.sharding import process_share
from scripts.make_shards import write_shards

COUNT, BATCH, STEPS = 21, 8, 6
IMAGES = np.random.RandomState(0).randint(0, 256, (COUNT, 5, 4, 3)).astype(np.uint8)
HELD = ArraySource(IMAGES, np.arange(COUNT, dtype=np.int32))
DRAW = functools.partial(host_generator, 0, "shuffle")
ORDER = PermutationOrder(DRAW, COUNT)
CROP = compose_transforms([random_resized_crop(4)])


def make_split(source: Any = None, workers: int = 2) -> StreamedSplit:
    return StreamedSplit("a set", source or wrap_as_stored(HELD), None, COUNT, workers)


@contextlib.contextmanager
def open_stream(
    split: StreamedSplit, devices: int = 1, share: tuple[int, int] | None = None, order: ExampleOrder = ORDER
) -> Iterator[TrainingStream]:
    draws = functools.partial(example_generator, 0, "host")
    divided = make_layout(devices, BATCH).batch
    crop = None if isinstance(split.source, StoredSource) else CROP
    with contextlib.closing(TrainingStream(split, crop, draws, order, BATCH, STEPS, divided, share)) as stream:
        yield stream


def expected_labels(step: int) -> list[int]:
    return ORDER.at(range(step * BATCH, (step + 1) * BATCH)).tolist()


@pytest.mark.parametrize("bytes_at_a_time", [2**22, IMAGES[0].nbytes * 3])  # a batch as one element, and as three
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_streamed_batches_follow_the_example_order(
    monkeypatch: pytest.MonkeyPatch, workers: int, bytes_at_a_time: int
) -> None:
    monkeypatch.setattr("jaxtrain.data.streaming._STORED_BYTES", bytes_at_a_time)
    with open_stream(make_split(workers=workers), devices=2) as stream:
        for step in (0, 1, 2, 4, 5, 1):
            images, labels = stream(step)
            assert np.asarray(labels).tolist() == expected_labels(step)
            np.testing.assert_array_equal(images, IMAGES[expected_labels(step)])
            assert images.sharding == make_layout(2, BATCH).batch


def test_a_streamed_batch_is_one_call_of_the_stored_source() -> None:
    """No Python code runs for each image."""
    calls: list[int] = []
    held = wrap_as_stored(HELD)

    def read(indices: np.ndarray, out: np.ndarray) -> np.ndarray:
        calls.append(len(indices))
        return held.read(indices, out)

    with open_stream(make_split(StoredSource(COUNT, (5, 4, 3), read, held.read_labels), workers=0)) as stream:
        for step in range(STEPS):
            stream(step)
    assert calls == [BATCH] * STEPS


@pytest.mark.parametrize("source", [wrap_as_stored(HELD), wrap_as_encoded("pictures", HELD)])
@pytest.mark.parametrize("processes", [2, 4])
def test_the_shares_of_all_processes_add_up_to_the_batch(source: Any, processes: int) -> None:
    split = make_split(source) if isinstance(source, StoredSource) else StreamedSplit("a set", source, CROP, COUNT, 1)
    with contextlib.ExitStack() as stack:
        whole = stack.enter_context(open_stream(split))
        shares = [stack.enter_context(open_stream(split, share=(i, processes))) for i in range(processes)]
        for step in range(STEPS):
            parts = [share.on_host(step) for share in shares]
            assert {len(part) for part in parts} == {BATCH // processes}
            images, labels = whole(step)
            np.testing.assert_array_equal(np.concatenate([part.images for part in parts]), images)
            np.testing.assert_array_equal(np.concatenate([part.labels for part in parts]), labels)


@pytest.mark.parametrize(("mine", "share"), [
    ((0, 1, 2, 3), (0, 1)),
    ((0, 1), (0, 2)),
    ((2, 3), (1, 2)),
    ((3,), (3, 4)),
    ((0, 2), (0, 1)),
    ((1, 2), (0, 1)),
])  # fmt: skip
def test_process_share_is_the_part_of_the_batch_on_its_devices(mine: tuple[int, ...], share: tuple[int, int]) -> None:
    class ShardedBatch:
        """The sharding of a batch of 8 over four devices, some of them of this process."""

        def addressable_devices_indices_map(self, shape: tuple[int, ...]) -> dict[int, tuple[slice, ...]]:
            assert shape == (8,)
            return {i: (slice(2 * i, 2 * i + 2),) for i in mine}

    assert process_share(ShardedBatch(), 8) == share  # type: ignore[arg-type]
    assert process_share(make_layout(2, 8).batch, 8) == (0, 1)
    assert process_share(make_layout(1, 8).replicated, 8) == (0, 1)


def test_a_process_reads_only_its_own_share_of_a_batch() -> None:
    read: set[int] = set()
    held = wrap_as_stored(HELD)

    def note(indices: np.ndarray, out: np.ndarray) -> np.ndarray:
        read.update(indices.tolist())
        return held.read(indices, out)

    with open_stream(make_split(StoredSource(COUNT, (5, 4, 3), note, held.read_labels), 0), share=(1, 2)) as stream:
        stream.on_host(3)
    assert read == set(expected_labels(3)[BATCH // 2 :])


def test_a_stream_refuses_a_batch_not_divisible_by_the_process_count() -> None:
    with (
        pytest.raises(ValueError, match="a batch of 8 examples does not divide evenly among 3 processes"),
        open_stream(make_split(), share=(0, 3)),
    ):
        pass


@pytest.mark.parametrize(("count", "size"), [(5, 3), (2, 3), (12, 8), (4, 8)])
def test_batch_groups_refuse_batches_not_divisible_by_the_process_count(count: int, size: int) -> None:
    with pytest.raises(ValueError, match="does not divide evenly among 5 processes"):
        BatchGroups(count, size, share=(0, 5))


@given(count=st.integers(1, 60), size=st.integers(1, 40), at_a_time=st.integers(1, 50), processes=st.integers(1, 5))
def test_batch_groups_of_all_processes_cover_every_position_once(
    count: int, size: int, at_a_time: int, processes: int
) -> None:
    count, size = count * processes, size * processes
    batches: dict[int, list[int]] = {}
    for index in range(processes):
        groups = BatchGroups(count, size, at_a_time, (index, processes))
        for batch in range(groups.batches):
            first = batch * groups.of_batch(0)
            pieces = [groups.positions(first + i) for i in range(groups.of_batch(batch))]
            assert all(0 < len(piece) <= at_a_time for piece in pieces)
            assert sum(map(len, pieces)) == groups.in_batch(batch)
            batches.setdefault(batch, []).extend(position for piece in pieces for position in piece)
    assert [position for batch in sorted(batches) for position in batches[batch]] == list(range(count))


def test_the_stream_puts_batches_on_the_device_before_their_step() -> None:
    """Batches on the device are dropped when another step is requested."""
    with open_stream(make_split(workers=2)) as stream:
        stream(0)
        deadline = time.monotonic() + 20
        step, placed = 0, 0
        while not placed and step < STEPS - 1 and time.monotonic() < deadline:
            time.sleep(0.05)  # a step long enough for the threads to make the next batches
            step += 1
            assert np.asarray(stream(step).labels).tolist() == expected_labels(step)
            placed = len(stream._on_devices)
        assert placed
        assert np.asarray(stream._on_devices[0].labels).tolist() == expected_labels(step + 1)
        assert np.asarray(stream(2).labels).tolist() == expected_labels(2)


def test_a_prefetcher_without_threads_makes_a_batch_on_request() -> None:
    groups = BatchGroups(STEPS * BATCH, BATCH, BATCH)
    with ahead.Prefetcher(lambda positions, _: np.array(positions), (1, 1, 1), groups, 0, 0) as batches:
        assert not batches.is_ready  # without threads, no batch is made before the request
        assert next(batches).labels.tolist() == list(range(BATCH))


@pytest.mark.parametrize("label", [-1, COUNT])
def test_a_label_out_of_range_in_stored_arrays_is_named(label: int) -> None:
    labels = np.arange(COUNT, dtype=np.int32)
    labels[7] = label
    with pytest.raises(DataError, match=rf"a set: label {label} of example 7 is out of range; with 21 classes"):
        next(make_split(wrap_as_stored(ArraySource(IMAGES, labels))).chunks(COUNT))


@pytest.mark.parametrize("stored", [True, False])
def test_errors_in_a_subset_name_the_index_in_the_whole_split(stored: bool) -> None:
    labels = np.arange(COUNT, dtype=np.int32)
    labels[7] = COUNT
    held = ArraySource(IMAGES, labels)
    source: Any = wrap_as_stored(held) if stored else wrap_as_encoded("a set", held)
    split = StreamedSplit("a set", source, None if stored else CROP, COUNT, 1)
    part = split.take(np.array([2, 9, 7, 1])).take(np.array([3, 2]))
    with pytest.raises(DataError, match="a set: label 21 of example 7 is out of range"):
        next(part.chunks(2))


# Orders.


@given(count=st.integers(1, 3000), seed=st.integers(0, 2**32 - 1))
def test_an_index_shuffle_is_a_permutation(count: int, seed: int) -> None:
    shuffle = IndexShuffle(np.random.RandomState(seed))
    found = shuffle.permutation(count)
    assert np.sort(found).tolist() == list(range(count))
    places = np.random.RandomState(seed).randint(0, count, 5)
    assert shuffle.at(places, count).tolist() == found[places].tolist()


def test_an_index_shuffle_works_for_more_examples_than_fit_in_memory() -> None:
    count = 10**12
    shuffle = IndexShuffle(np.random.RandomState(0))
    found = shuffle.at(np.arange(10_000), count)
    assert len(set(found.tolist())) == 10_000
    assert 0 <= found.min() < 1e9
    assert abs(found.mean() / count - 0.5) < 0.02


@pytest.mark.slow
def test_an_index_shuffle_is_as_random_as_a_permutation() -> None:
    """Chi-square of the positions of examples and of pairs of neighbors over many epochs: within 5 sigma."""
    n, epochs = 12, 2_000
    orders = np.stack([IndexShuffle(host_generator(0, "shuffle", e)).permutation(n) for e in range(epochs)])
    where = np.stack([np.bincount(orders[:, place], minlength=n) for place in range(n)])
    pairs = np.zeros((n, n))
    np.add.at(pairs, (orders[:, :-1].ravel(), orders[:, 1:].ravel()), 1)
    off_diagonal = pairs[~np.eye(n, dtype=bool)]
    for counts, freedom in ((where.ravel(), (n - 1) ** 2), (off_diagonal, n * (n - 1) - 1)):
        expected = counts.sum() / counts.size
        statistic = ((counts - expected) ** 2 / expected).sum()
        assert abs(statistic - freedom) < 5 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("order", ["permutation", "index"])
def test_streamed_orders_equal_those_of_the_loader_in_memory(order: str) -> None:
    def make_shuffle(epoch: int) -> IndexShuffle:
        return IndexShuffle(DRAW(epoch))

    sequence: ExampleOrder = IndexOrder(make_shuffle, COUNT) if order == "index" else ORDER
    shuffle = EpochShuffle(make_shuffle if order == "index" else DRAW, COUNT, BATCH, make_layout(1, 1).replicated)
    for step in range(12):
        expected = batch_indices(shuffle.order(step), np.int32(step), BATCH)  # type: ignore[arg-type]
        assert sequence.at(range(step * BATCH, (step + 1) * BATCH)).tolist() == np.asarray(expected).tolist()
    assert sorted(sequence.at(range(3 * COUNT, 4 * COUNT)).tolist()) == list(range(COUNT))
    assert sequence.at(range(5, 5 * COUNT)).dtype == np.int64


# Splits of a config.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shards")
    write_shards(root, "train", (HELD.take(np.arange(i, min(i + 6, COUNT))) for i in range(0, COUNT, 6)))
    write_shards(root, "test", [HELD.take(np.arange(5))])
    return root


def config(**changes: Any) -> DataConfig:
    settings: dict[str, Any] = {"dataset": "shards", "batch_size": 4, "validation": "4 examples", "stream": True}
    return DataConfig(**{**settings, **changes})


NAMES = ("train", "validation", "test")


@pytest.mark.parametrize("changes", [{}, {"resize": [6, 7], "pad": 1}, {"validation": None}])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_streamed_split_equals_the_split_in_memory(folder: Path, changes: Any, workers: int) -> None:
    streaming = plan_splits(config(workers=workers, **changes), folder)
    plan = plan_splits(config(stream=False, **changes), folder)
    names = tuple(plan.sizes)
    held, found = load_splits(plan, names, seed=5), stream_splits(streaming, names, seed=5)
    assert streaming.image_shape == plan.image_shape
    for name in held:
        source, split = (s[name].pad(streaming.config.pad) for s in (held, found))
        assert split.image_shape == plan.image_shape
        chunks = list(split.chunks(3))
        np.testing.assert_array_equal(np.concatenate([c.images for c in chunks]), source.images)
        np.testing.assert_array_equal(np.concatenate([c.labels for c in chunks]), source.labels)
        np.testing.assert_array_equal(split.labels, source.labels)


@pytest.mark.parametrize(("size", "multiple"), [(8, 4), (6, 2), (24, 8)])
def test_chunks_of_all_processes_are_the_split_padded_with_its_last_example(size: int, multiple: int) -> None:
    shares = [make_split().chunks(size, (index, 2), multiple) for index in range(2)]
    parts = [part for chunk in zip(*shares, strict=True) for part in chunk]
    labels = np.concatenate([part.labels for part in parts])
    assert labels.tolist() == [*range(COUNT), *[COUNT - 1] * (-COUNT % multiple)]
    np.testing.assert_array_equal(np.concatenate([part.images for part in parts]), IMAGES[labels])


@pytest.mark.parametrize("normalize", ["mean_std", "zca(epsilon=0.1)"])
def test_preprocessing_fitted_on_a_streamed_split_equals_that_in_memory(folder: Path, normalize: str) -> None:
    found = []
    for data, read in ((config(), stream_splits), (config(stream=False), load_splits)):
        plan = plan_splits(data.replace(normalize=normalize, pad=1), folder)
        found.append(fit_normalization(plan, read(plan, ("train",), 0)["train"]))
    for a, b in zip(vars(found[0]).values(), vars(found[1]).values(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("changes", "path", "says"), [
    ({"batch_size": "all"}, "data.batch_size", "set data.stream=false"),
    ({"batch_size": 17}, "data.batch_size", "set data.stream=false"),
    ({"stream": False, "workers": 2}, "data.workers", "or data.stream=true"),
    ({"decode_eval": "fit(5, 4)"}, "data.decode_eval", "set data.decode too"),
])  # fmt: skip
def test_settings_that_exclude_streaming_are_refused(
    folder: Path, changes: dict[str, Any], path: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        plan_splits(config(**changes), folder)
    assert error.value.path == path
