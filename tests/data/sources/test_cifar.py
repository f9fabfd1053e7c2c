import io
import lzma
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxtrain.data.dataset import Dataset
from jaxtrain.data.sources import cifar as module
from jaxtrain.data.sources.cifar import cifar10, cifar100
from jaxtrain.errors import DataError

TRAIN = [f"data_batch_{number}" for number in range(1, 6)]
NAMES_10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.fixture(autouse=True)
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """Use ten training and four test images, so that the files are small."""
    if "real_data" not in request.fixturenames:
        monkeypatch.setattr(module, "SIZES", {"train": 10, "test": 4})


def planes(count: int, seed: int) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (count, 3072)).astype(np.uint8)


def batches_10() -> dict[str, tuple[np.ndarray, list[int]]]:
    train = {name: (planes(2, seed), [seed, 9 - seed]) for seed, name in enumerate(TRAIN)}
    return train | {"test_batch": (planes(4, 9), [9, 0, 3, 3])}


def batches_100() -> dict[str, tuple[np.ndarray, list[int], list[int]]]:
    """Return planes, coarse labels and fine labels of each split."""
    return {
        "train": (planes(10, 1), list(range(10, 20)), list(range(90, 100))),
        "test": (planes(4, 2), [0, 19, 5, 7], [0, 99, 42, 17]),
    }


def binary(pixels: np.ndarray, *labels: list[int]) -> bytes:
    return b"".join(bytes(record[:-1]) + record[-1].tobytes() for record in zip(*labels, pixels, strict=True))


def files_10(form: str) -> dict[str, bytes]:
    if form == "bin":
        files = {f"{name}.bin": binary(pixels, labels) for name, (pixels, labels) in batches_10().items()}
        return files | {"batches.meta.txt": "\n".join([*NAMES_10[:9], "lorry", "", ""]).encode()}
    files = {
        name: pickle.dumps({b"data": pixels, b"labels": labels}, protocol=2)
        for name, (pixels, labels) in batches_10().items()
    }
    meta = {b"label_names": [name.encode() for name in [*NAMES_10[:9], "lorry"]], b"num_vis": 3072}
    return files | {"batches.meta": pickle.dumps(meta, protocol=2)}


def files_100(form: str) -> dict[str, bytes]:
    if form == "bin":
        return {f"{name}.bin": binary(pixels, coarse, fine) for name, (pixels, coarse, fine) in batches_100().items()}
    return {
        name: pickle.dumps({b"data": pixels, b"coarse_labels": coarse, b"fine_labels": fine})
        for name, (pixels, coarse, fine) in batches_100().items()
    }


def write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"some-folder/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def xz(files: dict[str, bytes]) -> dict[str, bytes]:
    return {
        name if "meta" in name else f"{name}.xz": content if "meta" in name else lzma.compress(content)
        for name, content in files.items()
    }


def check(data: Dataset, split: str, pixels: list[np.ndarray], labels: list[int]) -> None:
    source = data.load(split)
    assert source.labels.tolist() == labels
    # Pixel (row, column, channel) by the format's definition: 1024 red, 1024 green, 1024 blue, row by row.
    flat = np.concatenate(pixels)
    for row, column, channel in ((0, 0, 0), (0, 31, 1), (31, 0, 2), (17, 5, 1)):
        np.testing.assert_array_equal(
            source.images[:, row, column, channel], flat[:, 1024 * channel + 32 * row + column]
        )


def check_10(data: Dataset) -> None:
    assert (data.num_classes, data.image_shape, data.sizes) == (10, (32, 32, 3), {"train": 10, "test": 4})
    batches = batches_10()
    check(data, "train", [batches[name][0] for name in TRAIN], [0, 9, 1, 8, 2, 7, 3, 6, 4, 5])
    check(data, "test", [batches["test_batch"][0]], [9, 0, 3, 3])


@pytest.mark.parametrize("base", ["cifar10", "cifar-10", ""])
@pytest.mark.parametrize("pack", [dict, xz])
@pytest.mark.parametrize(("form", "folder"), [("bin", "cifar-10-batches-bin"), ("py", "cifar-10-batches-py")])
def test_cifar10_reads_unpacked_files(tmp_path: Path, base: str, pack: Callable[..., Any], form: str, folder: str):
    for place in (folder, ""):
        root = tmp_path / (place or "loose")
        write(root / base / place, pack(files_10(form)))
        data = cifar10(directory=root)
        check_10(data)
        assert data.class_names == (*NAMES_10[:9], "lorry")  # from the meta file


@pytest.mark.parametrize(("form", "name"), [("bin", "cifar-10-binary.tar.gz"), ("py", "cifar-10-python.tar.gz")])
def test_cifar10_reads_archives(tmp_path: Path, form: str, name: str):
    write_tar(tmp_path / "cifar10" / name, files_10(form))
    data = cifar10(directory=tmp_path)
    check_10(data)
    assert data.class_names == tuple(NAMES_10)


@pytest.mark.parametrize("labels", ["fine", "coarse"])
@pytest.mark.parametrize(("form", "folder"), [("bin", "cifar-100-binary"), ("py", "cifar-100-python")])
@pytest.mark.parametrize("packing", ["folder", "xz", "tar"])
def test_cifar100_reads_folders_and_archives_with_fine_or_coarse_labels(
    tmp_path: Path, labels: Any, form: str, folder: str, packing: str
):
    if packing == "tar":
        write_tar(tmp_path / f"{folder}.tar.gz", files_100(form))
    else:
        write(tmp_path / "cifar100" / folder, (xz if packing == "xz" else dict)(files_100(form)))
    data = cifar100(directory=tmp_path, labels=labels)
    assert data.num_classes == len(data.class_names) == (100 if labels == "fine" else 20)
    for split, (pixels, coarse, fine) in batches_100().items():
        check(data, split, [pixels], fine if labels == "fine" else coarse)


def test_the_built_in_cifar100_class_names_are_complete_and_sorted():
    fine, coarse = module._CIFAR100_FINE.class_names, module._CIFAR100_COARSE.class_names
    assert (len(set(fine)), len(set(coarse))) == (100, 20)
    assert sorted(fine) == list(fine)
    assert sorted(coarse) == list(coarse)
    assert (fine[0], fine[71], fine[-1], coarse[19]) == ("apple", "sea", "worm", "vehicles_2")


def test_cifar100_takes_class_names_from_the_meta_file(tmp_path: Path):
    names = [f"name{number}" for number in range(20)]
    write(tmp_path, files_100("bin") | {"coarse_label_names.txt": "\n".join(names).encode()})
    assert cifar100(directory=tmp_path, labels="coarse").class_names == tuple(names)
    assert cifar100(directory=tmp_path).class_names[0] == "apple"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("batches.meta.txt", b"one two", "names 2 classes instead of 10"),
        ("batches.meta", pickle.dumps({b"other": []}), "contains no list 'label_names'"),
        ("batches.meta", pickle.dumps({b"label_names": list(range(10))}), "contains no list 'label_names'"),
        ("batches.meta", b"garbage", "cannot be decoded"),
    ],
)
def test_cifar10_names_a_bad_meta_file(tmp_path: Path, name: str, content: bytes, message: str):
    write(tmp_path, files_10("bin" if name.endswith("txt") else "py") | {name: content})
    with pytest.raises(DataError, match=message) as error:
        cifar10(directory=tmp_path)
    assert str(tmp_path / name) in str(error.value)


def test_cifar_names_missing_files(tmp_path: Path):
    with pytest.raises(DataError, match=r"\.tar\.gz; download what is missing from www\.cs\.toronto\.edu"):
        cifar10(directory=tmp_path)
    with pytest.raises(DataError, match=r"JAXTRAIN_DATA.*train\.bin and test\.bin"):
        cifar100(directory=None)
    files = files_10("bin")
    del files["data_batch_3.bin"]
    write(tmp_path, files)
    with pytest.raises(DataError, match=r"found .*, but not data_batch_3\.bin; "):
        cifar10(directory=tmp_path)


BATCH = files_10("bin")["data_batch_2.bin"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data_batch_2.bin", BATCH[:-1], "holds 6,145 bytes, not 2 records of 3,073"),
        ("data_batch_2.bin", BATCH[: len(BATCH) // 2], "holds 3,073 bytes"),
        ("data_batch_2.bin", BATCH + b"\0", "holds 6,147 bytes"),
        ("data_batch_2.bin", b"", "holds 0 bytes"),
        ("data_batch_2.bin.xz", lzma.compress(BATCH)[:-20], "cannot be decoded"),
        ("data_batch_2.bin.xz", lzma.compress(BATCH)[:10], "cannot be decoded"),
        ("data_batch_2.bin.xz", b"", "data_batch_2.bin.xz"),
        ("data_batch_2.bin.xz", b"no xz at all", "cannot be decoded"),
        ("data_batch_2.bin.xz", lzma.compress(b"short"), "holds 5 bytes"),
        ("data_batch_2.bin", bytes([12]) + BATCH[1:], "label 12 of example 2 is out of range"),
    ],
)
def test_cifar10_refuses_damaged_binary_batches(tmp_path: Path, name: str, content: bytes, message: str):
    files = files_10("bin")
    del files["data_batch_2.bin"]
    write(tmp_path, files | {name: content})
    data = cifar10(directory=tmp_path)
    with pytest.raises(DataError, match=message):
        data.load("train")
    assert len(data.load("test")) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be decoded"),
        (b"no pickle", "cannot be decoded"),
        ([planes(2, 0)], "list where a dict is expected"),
        ({b"labels": [0, 1]}, r"no uint8 array 'data' of shape \(2, 3072\)"),
        ({b"data": planes(3, 0), b"labels": [0, 1, 2]}, r"no uint8 array 'data' of shape \(2, 3072\)"),
        ({b"data": planes(2, 0).astype(np.int32), b"labels": [0, 1]}, "no uint8 array"),
        ({b"data": planes(2, 0)}, "no list 'labels' of 2 integers"),
        ({b"data": planes(2, 0), b"labels": [0]}, "no list 'labels'"),
        ({b"data": planes(2, 0), b"labels": [0, "1"]}, "no list 'labels'"),
        ({b"data": planes(2, 0), b"labels": [0, 1.5]}, "no list 'labels'"),
        ({b"data": planes(2, 0), b"labels": np.zeros((2, 2), np.int32)}, "no list 'labels'"),
        ({b"data": planes(2, 0), b"labels": [0, 2**40]}, "cannot be decoded"),
        ({b"data": planes(2, 0), b"labels": [0, -1]}, "label -1 of example 1 is out of range"),
        ({b"data": print, b"labels": [0, 1]}, "refers to .*print, which is refused"),
    ],
)
def test_cifar10_refuses_damaged_pickled_batches(tmp_path: Path, content: Any, message: str):
    packed = content if isinstance(content, bytes) else pickle.dumps(content)
    write(tmp_path, files_10("py") | {"data_batch_1": packed})
    with pytest.raises(DataError, match=message):
        cifar10(directory=tmp_path).load("train")


def test_cifar10_accepts_labels_as_an_array(tmp_path: Path):
    content = {"data": planes(2, 0), "labels": np.array([7, 8])}
    write(tmp_path, files_10("py") | {"data_batch_1": pickle.dumps(content)})
    assert cifar10(directory=tmp_path).load("train").labels[:2].tolist() == [7, 8]


@pytest.mark.parametrize("cut", [0.0, 0.1, 0.5, 0.999])
def test_cifar10_refuses_a_truncated_archive(tmp_path: Path, cut: float):
    path = tmp_path / "cifar-10-binary.tar.gz"
    write_tar(path, files_10("bin"))
    content = path.read_bytes()
    path.write_bytes(content[: int(cut * len(content))])
    for split in ("train", "test"):
        with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz cannot be decoded"):
            cifar10(directory=tmp_path).load(split)


def test_cifar10_refuses_a_damaged_archive(tmp_path: Path):
    path = tmp_path / "cifar-10-binary.tar.gz"
    write_tar(path, files_10("bin"))
    content = bytearray(path.read_bytes())
    content[3000] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz"):
        cifar10(directory=tmp_path).load("train")


def test_cifar10_refuses_an_archive_with_a_missing_or_linked_batch(tmp_path: Path):
    files = files_10("bin")
    del files["data_batch_4.bin"]
    path = tmp_path / "cifar-10-binary.tar.gz"
    write_tar(path, files)
    with pytest.raises(DataError, match=r"does not contain data_batch_4\.bin"):
        cifar10(directory=tmp_path).load("train")
    with tarfile.open(path, "w:gz") as tar:
        for name in files_10("bin"):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(member)
    with pytest.raises(DataError, match=r"does not contain data_batch_1\.bin, "):
        cifar10(directory=tmp_path).load("train")


@pytest.mark.slow
def test_cifar10_reads_the_real_test_batch(real_data: Callable[[str], Path], tmp_path: Path):
    folder = real_data("cifar10") / "cifar10"
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    data = cifar10(directory=tmp_path)
    assert data.class_names == tuple(NAMES_10)
    assert data.sizes == {"train": 50_000, "test": 10_000}
    test = data.load("test")
    assert np.bincount(test.labels).tolist() == [1000] * 10
    # The mean of the training images; that of the test images is close.
    np.testing.assert_allclose(test.images.mean((0, 1, 2)) / 255, [0.4914, 0.4822, 0.4465], atol=5e-3)
    with lzma.open(folder / "test_batch.bin.xz") as file:
        first = file.read(3073)
    assert test.labels[0] == first[0] == 3
    np.testing.assert_array_equal(test.images[0, :, :, 2].reshape(-1), np.frombuffer(first[2049:], np.uint8))
