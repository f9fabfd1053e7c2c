import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxtrain.data.source import ArraySource
from jaxtrain.data.sources import shard_split
from jaxtrain.data.sources.npz import npz
from jaxtrain.data.sources.shards import shards
from jaxtrain.errors import DataError
from scripts.make_shards import write_class_names, write_shards

SIZES = (5, 3, 6)
RNG = np.random.RandomState(0)
IMAGES = RNG.randint(0, 256, (sum(SIZES), 4, 3, 3)).astype(np.uint8)
LABELS = RNG.randint(0, 5, sum(SIZES)).astype(np.int32)
LABELS[0] = 4
STARTS = np.cumsum([0, *SIZES])


def part(number: int) -> ArraySource:
    where = slice(STARTS[number], STARTS[number + 1])
    return ArraySource(IMAGES[where], LABELS[where])


def write_npz(folder: Path, save: Callable[..., None] = np.savez, split: str = "train") -> None:
    for i in range(len(SIZES)):
        save(folder / f"{split}-{i:05}-of-00003.npz", images=part(i).images, labels=part(i).labels[:, None])


def write_npy(folder: Path, **_: Any) -> None:
    for i in range(len(SIZES)):
        np.save(folder / f"train-{i}.images.npy", np.asfortranarray(part(i).images) if i == 1 else part(i).images)
        np.save(folder / f"train-{i}.labels.npy", part(i).labels.astype(np.uint64))


def write_own_format(folder: Path) -> None:
    write_shards(folder, "train", map(part, range(len(SIZES))))


FORMS = {
    "stored": write_npz,
    "compressed": lambda folder: write_npz(folder, np.savez_compressed),
    "npy": write_npy,
    "written here": write_own_format,
}


@pytest.mark.parametrize("form", FORMS)
def test_shards_of_every_format_give_the_same_examples_whole_or_streamed(tmp_path: Path, form: str) -> None:
    FORMS[form](tmp_path)
    data = shards(directory=tmp_path)
    assert (data.image_shape, data.num_classes, data.sizes) == ((4, 3, 3), 5, {"train": 14})
    whole = data.load("train")
    np.testing.assert_array_equal(whole.images, IMAGES)
    np.testing.assert_array_equal(whole.labels, LABELS)
    source = data.store("train").take(np.arange(14)[::-1])
    wanted = np.array([13, 0, 5, 4, 13, 8, 7])
    out = np.zeros((len(wanted), 4, 3, 3), np.uint8)
    np.testing.assert_array_equal(source.read(wanted, out), LABELS[::-1][wanted])
    np.testing.assert_array_equal(out, IMAGES[::-1][wanted])
    np.testing.assert_array_equal(source.read_labels(np.arange(14)), LABELS[::-1])
    assert source.read_labels(wanted).dtype == np.int32


def test_streamed_shards_load_only_the_images_that_are_read(tmp_path: Path) -> None:
    """Pages of a mapped file are read on access, so a shard of 256 MiB needs almost no memory."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (2**14, 128, 128)}
    with (tmp_path / "train-0.images.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 2**28)  # a sparse file, which takes no disk space
    np.save(tmp_path / "train-0.labels.npy", np.zeros(2**14, np.int64))
    source = shards(directory=tmp_path, num_classes=1).store("train")
    before = resident_bytes()
    source.read(np.arange(0, 2**14, 2**10), np.empty((16, 128, 128, 1), np.uint8))
    assert resident_bytes() - before < 2**25


def resident_bytes() -> int:
    """Return the resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_shards_keep_few_files_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_split, "_MAPPED_FILES", 2)
    images = np.arange(40, dtype=np.uint8).reshape(40, 1, 1)
    write_shards(tmp_path, "train", (ArraySource(images[i : i + 1], np.array([0], np.int32)) for i in range(40)))
    source = shards(directory=tmp_path).store("train")
    before = len(os.listdir("/proc/self/fd"))
    out = np.empty((40, 1, 1, 1), np.uint8)
    source.read(np.arange(40), out)
    assert out.ravel().tolist() == list(range(40))
    assert len(os.listdir("/proc/self/fd")) - before <= 2


def test_shards_read_class_names_and_a_test_split(tmp_path: Path) -> None:
    (tmp_path / "sets").mkdir()
    write_own_format(tmp_path / "sets")
    write_npz(tmp_path / "sets", split="test")
    write_class_names(tmp_path / "sets", ["ant", "bee", "cat", "dog", "eel", "fox"])
    data = shards(directory=tmp_path, subdirectory="sets")
    assert (data.num_classes, data.class_names[5], data.sizes) == (6, "fox", {"train": 14, "test": 14})
    with pytest.raises(DataError, match=r"names 6 classes, but data.dataset.num_classes is 7"):
        shards(directory=tmp_path, subdirectory="sets", num_classes=7)


def test_shards_loaded_whole_are_checked_against_their_checksum(tmp_path: Path) -> None:
    large = ArraySource(np.zeros((9, 64, 64, 3), np.uint8), np.zeros(9, np.int32))
    (path,) = write_shards(tmp_path, "train", [large])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(bytes(content))
    data = shards(directory=tmp_path)  # reads the headers only
    with pytest.raises(DataError, match=r"train-00000.npz, array images, cannot be decoded: Bad CRC"):
        data.load("train")


def add_npz(name: str, **arrays: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        write_npz(folder)
        np.savez(folder / name, **arrays)

    return damage


def cut_npy(folder: Path) -> None:
    write_npy(folder)
    path = folder / "train-2.images.npy"
    path.write_bytes(path.read_bytes()[:-7])


def cut_npz(folder: Path) -> None:
    write_npz(folder)
    path = folder / "train-00001-of-00003.npz"
    path.write_bytes(path.read_bytes()[:-90])


def omit(name: str, save: Callable[[Path], None] = write_npz) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        save(folder)
        (folder / name).unlink()

    return remove


SECOND = "train-00001-of-00003.npz"


@pytest.mark.parametrize(("write", "says"), [
    (lambda folder: None, "no training shards in .*expected train-00000.npz"),
    (omit(SECOND), "lacks shard 1, and 0 more of 3"),
    (omit("train-00002-of-00003.npz"), "lacks shard 2"),
    (omit("train-1.images.npy", write_npy), "lacks shard 1"),
    (omit("train-1.labels.npy", write_npy), "train-1.images.npy exists, but train-1.labels.npy beside it does not"),
    (add_npz("train-1.npz", images=IMAGES), "are both shard 1; remove one"),
    (add_npz(SECOND, images=IMAGES[:3]), "00001-of-00003.npz holds no array 'labels', only images"),
    (add_npz(SECOND, images=IMAGES[:3], labels=LABELS[:2]), "labels is int32 of shape .2,.; the labels of 3 images"),
    (add_npz(SECOND, images=IMAGES[:3], labels=LABELS[:3] / 2), "labels is float64"),
    (add_npz(SECOND, images=IMAGES[:3].astype(np.int16), labels=LABELS[:3]), "00001.*: images is int16"),
    (add_npz(SECOND, images=IMAGES[:3, 1:], labels=LABELS[:3]), r"00001.*: images of shape \(3, 3, 3\), but those of"),
    (add_npz(SECOND, images=np.array([None]), labels=LABELS[:1]), "images contains Python objects"),
    (add_npz(SECOND, images=IMAGES[:3], labels=-LABELS[:3] - 1), "labels are not all from 0 to 999,999"),
    (cut_npy, "train-2.images.npy: images is truncated: the file has 209 of the 216 bytes"),
    (cut_npz, "00001-of-00003.npz cannot be decoded"),
    (lambda folder: (folder / "train-0.npz").write_bytes(b"no zip"), "train-0.npz cannot be decoded"),
])  # fmt: skip
def test_shards_names_missing_or_damaged_files(tmp_path: Path, write: Callable[[Path], Any], says: str) -> None:
    write(tmp_path)
    with pytest.raises(DataError, match=says):
        shards(directory=tmp_path)


def test_shards_names_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no folder .*gone; set data.dataset.subdirectory"):
        shards(directory=tmp_path, subdirectory="gone")
    with pytest.raises(DataError, match=r"set data.directory in the config"):
        shards(directory=None)


def test_shards_refuse_a_file_truncated_during_use(tmp_path: Path) -> None:
    write_npy(tmp_path)
    source = shards(directory=tmp_path).store("train")
    path = tmp_path / "train-2.images.npy"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DataError, match=r"train-2.images.npy cannot be decoded: buffer is too small"):
        source.read(np.array([13]), np.empty((1, 4, 3, 3), np.uint8))


def test_compressed_shards_beyond_the_memory_limit_cannot_be_streamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_split, "_COMPRESSED_BYTES", IMAGES.nbytes - 1)
    write_npz(tmp_path, np.savez_compressed)
    data = shards(directory=tmp_path)
    np.testing.assert_array_equal(data.load("train").images, IMAGES)
    with pytest.raises(DataError, match=r"00000-of-00003.npz is compressed, .*numpy.savez"):
        data.store("train")


def test_concurrent_threads_read_a_compressed_shard_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_npz(tmp_path, np.savez_compressed)
    opened: list[str] = []
    read = shard_split.read_npz

    def record_and_read(path: Path, name: str) -> np.ndarray:
        opened.append(f"{path.name} {name}")
        time.sleep(0.02)
        return read(path, name)

    source = shards(directory=tmp_path).store("train")
    monkeypatch.setattr(shard_split, "read_npz", record_and_read)
    everything = np.arange(len(source))
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: source.read_labels(everything).tolist(), range(6)))
    assert all(labels == found[0] for labels in found)
    assert len(opened) == len(set(opened)) == 2 * 3


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_single_npz_file_can_be_streamed(tmp_path: Path, save: Callable[..., None]) -> None:
    save(tmp_path / "data.npz", train_images=IMAGES, train_labels=LABELS[:, None])
    source = npz(directory=tmp_path, file="data.npz").store("train")
    out = np.empty((2, 4, 3, 3), np.uint8)
    np.testing.assert_array_equal(source.read(np.array([9, 1]), out), LABELS[[9, 1]])
    np.testing.assert_array_equal(out, IMAGES[[9, 1]])
