import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtrain.data.sources.npz import npz
from jaxtrain.errors import DataError
from tests.conftest import examples

ARRAYS: dict[str, np.ndarray] = {
    "train_images": np.arange(60, dtype=np.uint8).reshape(5, 2, 2, 3),
    "train_labels": np.array([0, 3, 1, 3, 0]),
    "test_images": np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3),
    "test_labels": np.array([2, 1], np.uint8),
}


def save(folder: Path, save: Callable[..., None] = np.savez, **changes: Any) -> Path:
    """Write data.npz with `ARRAYS` and the changes; None leaves an array out."""
    arrays = {name: array for name, array in {**ARRAYS, **changes}.items() if array is not None}
    save(folder / "data.npz", **arrays)
    return folder


@pytest.mark.parametrize("how", [np.savez, np.savez_compressed])
def test_npz_reads_arrays_shape_sizes_and_classes(tmp_path: Path, how: Callable[..., None]):
    data = npz(directory=save(tmp_path, how), file="data.npz")
    assert (data.image_shape, data.num_classes, data.sizes) == ((2, 2, 3), 4, {"train": 5, "test": 2})
    assert data.class_names == ("0", "1", "2", "3")
    for split in ("train", "test"):
        source = data.load(split)
        np.testing.assert_array_equal(source.images, ARRAYS[f"{split}_images"])
        np.testing.assert_array_equal(source.labels, ARRAYS[f"{split}_labels"])
        assert source.labels.dtype == np.int32


def test_npz_accepts_grey_images_column_labels_and_no_test_split(tmp_path: Path):
    grey = np.asfortranarray(np.arange(20, dtype=np.uint8).reshape(5, 2, 2))
    changes = {"train_images": grey, "train_labels": ARRAYS["train_labels"][:, None]}
    save(tmp_path, **changes, test_images=None, test_labels=None)
    data = npz(directory=tmp_path, file="data.npz", num_classes=7)
    assert (data.image_shape, data.num_classes, data.sizes) == ((2, 2, 1), 7, {"train": 5})
    np.testing.assert_array_equal(data.load("train").images[..., 0], grey)
    assert data.load("train").labels.tolist() == [0, 3, 1, 3, 0]


def test_npz_describes_a_dataset_without_reading_the_images(tmp_path: Path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (5, 2, 2)})
    labels = io.BytesIO()
    np.save(labels, ARRAYS["train_labels"])
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("train_images.npy", header.getvalue())  # not one pixel
        archive.writestr("train_labels.npy", labels.getvalue())
        archive.writestr("readme.txt", "no array")
    data = npz(directory=tmp_path, file="data.npz")
    assert (data.num_classes, data.sizes) == (4, {"train": 5})
    with pytest.raises(DataError, match=r"data\.npz, array train_images, cannot be decoded"):
        data.load("train")


def test_npz_names_a_missing_file():
    with pytest.raises(DataError, match=r"JAXTRAIN_DATA to the folder that holds data\.npz"):
        npz(directory=None, file="data.npz")
    with pytest.raises(DataError, match=r"npz: not found in .*expected data\.npz; put what is missing into"):
        npz(directory=Path(__file__).parent, file="data.npz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": None, "x_train": np.zeros(3)}, "no array 'train_images', only test_images, .*x_train"),
        ({"train_labels": None}, "no array 'train_labels'"),
        ({"test_labels": None}, "no array 'test_labels'"),
        ({"test_images": None}, "no array 'test_images'"),
        ({"train_images": np.zeros((5, 2, 2, 3), np.float32)}, "train_images is float32"),
        ({"train_images": np.zeros((5, 12), np.uint8)}, "images must be uint8 of"),
        ({"train_images": np.zeros((0, 2, 2), np.uint8), "train_labels": np.zeros(0, int)}, "N > 0"),
        ({"train_labels": np.zeros(4, int)}, r"train_labels is int64 of shape \(4,\); the labels of 5 images"),
        ({"train_labels": np.zeros(5)}, "train_labels is float64"),
        ({"train_labels": np.zeros((5, 4), int)}, "integers"),
        ({"train_labels": np.full(5, -1)}, "the largest of train_labels is -1"),
        ({"train_labels": np.full(5, 2**40)}, "the largest of train_labels is 1099511627776"),
        ({"test_images": np.zeros((2, 2, 2), np.uint8)}, "the two splits must have images of the same shape"),
        ({"train_labels": np.array([1, "a", None, 2, 3], object)}, "train_labels is object"),
        ({"train_images": np.array([[[None]]] * 5, object)}, "train_images is object"),
    ],
)
def test_npz_refuses_missing_or_unsuitable_arrays(tmp_path: Path, changes: dict[str, Any], message: str):
    save(tmp_path, **changes)
    with pytest.raises(DataError, match=message) as error:
        npz(directory=tmp_path, file="data.npz")
    assert str(tmp_path / "data.npz") in str(error.value)


@pytest.mark.parametrize("label", [-1, 4, 2**40, -(2**40), 2**32])
def test_npz_refuses_labels_out_of_range(tmp_path: Path, label: int):
    save(tmp_path, test_labels=np.array([0, label]))
    with pytest.raises(DataError, match="of example 1 is out of range; with 4 classes"):
        npz(directory=tmp_path, file="data.npz").load("test")


def test_npz_refuses_files_of_another_format(tmp_path: Path):
    path = tmp_path / "data.npz"
    for content in (b"", b"text", b"PK\3\4", b"\x93NUMPY\1\0"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"data\.npz cannot be decoded"):
            npz(directory=tmp_path, file="data.npz")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no arrays")
    with pytest.raises(DataError, match="no array 'train_images', only nothing"):
        npz(directory=tmp_path, file="data.npz")


@given(st.data())
@examples(300)
def test_a_damaged_npz_gives_a_data_error_or_the_stored_images(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    folder = tmp_path_factory.mktemp("npz")
    save(folder, data.draw(st.sampled_from([np.savez, np.savez_compressed])))
    path = folder / "data.npz"
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    try:
        loaded = npz(directory=folder, file="data.npz").load("train")
    except DataError as error:
        assert "npz" in str(error)  # noqa: PT017
    except UserWarning:
        pass  # numpy's warning about duplicate or odd names in the zip
    else:
        np.testing.assert_array_equal(loaded.images, ARRAYS["train_images"])
