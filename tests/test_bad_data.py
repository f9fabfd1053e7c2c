"""A table of wrong data directories and data files; each is refused before a run directory is created."""

import dataclasses
import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxtrain.config import dumps
from tests.conftest import tiny_config
from tests.refusals import assert_refused, run_alone, run_here, tree

IMAGES, LABELS = np.arange(96 * 16, dtype=np.uint8).reshape(96, 4, 4), np.arange(96, dtype=np.uint8) % 3
TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
FOLDER = "image_folder(size=[4, 4], channels=1, test=none)"


@dataclasses.dataclass(frozen=True)
class Row:
    """A source, the preparation of `data`, the parts of the message, and the directory if it is not `data`."""

    id: str
    source: str
    prepare: Callable[[], object]
    says: tuple[str, ...]
    where: str = "data"
    alone: bool = False


def nothing() -> None:
    """Create no directory."""


def write_idx(name: str, array: np.ndarray, magic: int | None = None) -> None:
    """Write an IDX file."""
    Path("data").mkdir(exist_ok=True)
    head = struct.pack(">I", 0x0800 + array.ndim if magic is None else magic)
    Path("data", name).write_bytes(head + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes())


def idx(images: np.ndarray = IMAGES, labels: np.ndarray = LABELS, magic: int | None = None) -> Callable[[], None]:
    """Return a function that writes the two files of a training split."""

    def prepare() -> None:
        write_idx(TRAIN_IMAGES, images, magic)
        write_idx(TRAIN_LABELS, labels)

    return prepare


def idx_of(name: str, keep: int | None, *, packed: bool = False, extra: bytes = b"") -> Callable[[], None]:
    """Like `idx`, with one file compressed or not, cut after `keep` bytes or extended."""

    def prepare() -> None:
        idx()()
        path = Path("data", name)
        content = gzip.compress(path.read_bytes(), mtime=0) if packed else path.read_bytes()
        path.write_bytes(content[:keep] + extra)

    return prepare


def idx_test_split() -> None:
    """Write a test split with images of another shape."""
    idx()()
    write_idx("t10k-images-idx3-ubyte", IMAGES[:, :3])
    write_idx("t10k-labels-idx1-ubyte", LABELS)


def npz(**arrays: np.ndarray) -> Callable[[], None]:
    """Return a function that writes `own.npz` with these arrays."""

    def prepare() -> None:
        Path("data").mkdir()
        np.savez("data/own.npz", **arrays)  # type: ignore[arg-type]

    return prepare


def npz_of(change: Callable[[bytes], bytes]) -> Callable[[], None]:
    """Return a function that writes a correct `own.npz` and then changes its bytes."""

    def prepare() -> None:
        npz(train_images=IMAGES, train_labels=LABELS)()
        path = Path("data/own.npz")
        path.write_bytes(change(path.read_bytes()))

    return prepare


def folder(*images: str, spoiled: str = "") -> Callable[[], None]:
    """Return a function that writes grey images at these paths; the content of `spoiled` is not an image."""

    def prepare() -> None:
        for name in images:
            path = Path("data", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(IMAGES[0]).save(path)
        if spoiled:
            Path("data", spoiled).write_bytes(b"\x89PNG and no more")

    return prepare


def image_class(spoil: str = "") -> Callable[[], None]:
    """Return a function that writes enough images of one class for a batch."""
    return folder(*(f"train/a/{i:02d}.png" for i in range(20)), spoiled=spoil)


ROWS = (
    Row("lost", "mnist", nothing, ("directory data does not exist", "--data-dir", "JAXTRAIN_DATA"), alone=True),
    Row("of-nobody", "mnist", nothing, ("~nobody-here/x does not exist",), where="~nobody-here/x"),
    Row("not-configured", "fashion_mnist", nothing, ("fashion_mnist", "data.directory", "JAXTRAIN_DATA"), where=""),
    Row("a-file", "mnist", lambda: Path("data").touch(), ("data is not a directory",)),
    Row("empty", "mnist", lambda: Path("data").mkdir(), ("mnist: not found in data/mnist", TRAIN_IMAGES)),
    Row("file-lost", "idx", lambda: write_idx(TRAIN_IMAGES, IMAGES), (f"found data/{TRAIN_IMAGES}", TRAIN_LABELS)),
    Row("idx-gz-cut", "idx", idx_of(TRAIN_IMAGES, 90, packed=True), (f"data/{TRAIN_IMAGES}", "incomplete")),
    Row("idx-cut", "idx", idx_of(TRAIN_IMAGES, 1000), (f"data/{TRAIN_IMAGES}", "incomplete")),
    Row("idx-longer", "idx", idx_of(TRAIN_LABELS, None, extra=b"??"), (f"data/{TRAIN_LABELS}", "98 bytes")),
    Row("idx-header-cut", "idx", idx_of(TRAIN_LABELS, 6), (f"data/{TRAIN_LABELS}", "incomplete")),
    Row("idx-empty", "idx", idx_of(TRAIN_LABELS, 0), (f"data/{TRAIN_LABELS} is not an IDX file",)),
    Row("idx-magic", "idx", idx(magic=0x12345678), (f"data/{TRAIN_IMAGES} is not an IDX file", "0x12345678")),
    Row("idx-swapped", "idx", idx(LABELS, IMAGES), (f"data/{TRAIN_IMAGES}", "shape (96,)")),
    Row("idx-labels", "idx(num_classes=2)", idx(), ("label 2 of example 2", "2 classes")),
    Row("idx-counts", "idx", idx(labels=LABELS[:95]), (f"data/{TRAIN_IMAGES}", "96 images", "95 labels")),
    Row("idx-test-shape", "idx", idx_test_split, ("data/t10k-images-idx3-ubyte", "(3, 4, 1)")),
    Row("idx-few", "idx", idx(IMAGES[:15], LABELS[:15]), ("data.batch_size: ", "15 examples")),
    Row("npz-name", "npz(file='owm.npz')", npz(train_images=IMAGES), ("owm.npz",)),
    Row("npz-cut", "npz(file='own.npz')", npz_of(lambda b: b[:700]), ("data/own.npz", "damaged")),
    Row(
        "npz-spoiled",
        "npz(file='own.npz')",
        npz_of(lambda b: b[:600] + b"spoiled" + b[607:]),
        ("data/own.npz", "train_images", "damaged"),
    ),
    Row("npz-no-zip", "npz(file='own.npz')", npz_of(lambda b: b"images!"), ("data/own.npz", "damaged")),
    Row("npz-no-labels", "npz(file='own.npz')", npz(train_images=IMAGES), ("data/own.npz", "'train_labels'")),
    Row(
        "npz-objects",
        "npz(file='own.npz')",
        npz(train_images=IMAGES, train_labels=LABELS.astype(object)),
        ("data/own.npz: train_labels is object",),
    ),
    Row(
        "npz-floats",
        "npz(file='own.npz')",
        npz(train_images=IMAGES / 255, train_labels=LABELS),
        ("data/own.npz: train_images is float64", "uint8"),
    ),
    Row(
        "npz-negative",
        "npz(file='own.npz')",
        npz(train_images=IMAGES, train_labels=LABELS.astype(int) - 1),
        ("npz own.npz", "label -1 of example 0"),
    ),
    Row("folder-typo", FOLDER, folder("trian/a/1.png"), ("no folder data/train", "did you mean 'trian'")),
    Row("folder-no-classes", FOLDER, folder("train/1.png"), ("data/train holds no folders",)),
    Row("folder-class-empty", FOLDER, folder("train/a/1.png", "train/b/c/1.png"), ("data/train/b holds no image",)),
    Row(
        "folder-class-unknown",
        "image_folder(size=[4, 4])",
        folder("train/cat/1.png", "val/cats/1.png"),
        ("data/val/cats", "did you mean 'cat'"),
    ),
    Row("folder-spoiled", FOLDER, image_class("train/a/07.png"), ("data/train/a/07.png cannot be decoded",)),
    Row("folder-too-small", "image_folder(size=[0, 4])", image_class(), ("data.dataset.size.0: 0 is out of range",)),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_train_refuses_bad_data_and_leaves_no_run_directory(
    row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.json").write_text(dumps(tiny_config()))
    row.prepare()
    before = tree(tmp_path)
    arguments = ["train", "tiny.json", f"data.dataset={row.source}", "data.validation=none", "--workdir", "run"]
    if row.where:
        arguments += ["--data-dir", row.where]
    code, message = run_alone(arguments) if row.alone else run_here(arguments, capsys)
    assert_refused(code, message, row.says)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("source", ["idx", "npz(file='own.npz')"])
def test_check_accepts_the_data_files_without_damage(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.json").write_text(dumps(tiny_config()))
    (idx() if source == "idx" else npz(train_images=IMAGES, train_labels=LABELS))()
    code, message = run_here(["check", "tiny.json", f"data.dataset={source}", "--data-dir", "data"], capsys)
    assert (code, message) == (0, "")
