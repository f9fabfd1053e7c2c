import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from jaxtrain.data.sources import digits as module
from jaxtrain.data.sources.digits import digits
from jaxtrain.errors import DataError


def test_digits_equals_the_scikit_learn_reader_up_to_the_split():
    data, original = digits(), load_digits()
    splits = [data.load("train"), data.load("test")]
    images = np.concatenate([split.images for split in splits])[..., 0]
    labels = np.concatenate([split.labels for split in splits])
    values = np.round(images / 255 * 16)  # the inverse given in the docstring
    order, expected_order = (
        np.lexsort(np.c_[a, b].T)
        for a, b in ((values.reshape(-1, 64), labels), (original.images.reshape(-1, 64), original.target))
    )
    np.testing.assert_array_equal(values[order], original.images[expected_order])
    np.testing.assert_array_equal(labels[order], original.target[expected_order])


def test_digits_maps_its_seventeen_levels_to_the_full_uint8_range():
    levels = np.unique(digits().load("train").images)
    assert (len(levels), levels[0], levels[-1]) == (17, 0, 255)


def test_digits_has_the_documented_shape_sizes_and_dtypes():
    data = digits()
    assert (data.image_shape, data.num_classes, data.sizes) == ((8, 8, 1), 10, {"train": 1437, "test": 360})
    assert data.class_names == tuple("0123456789")
    train = data.load("train")
    assert (train.images.dtype, train.labels.dtype) == (np.uint8, np.int32)


def test_the_test_split_of_digits_is_fixed():
    labels = digits().load("test").labels
    original = load_digits().target
    expected = original[np.random.RandomState(0).permutation(1797)[:360]]
    np.testing.assert_array_equal(labels, expected)
    assert labels[:12].tolist() == [2, 8, 2, 6, 6, 7, 1, 9, 8, 5, 2, 8]
    assert np.bincount(labels).min() >= 27


def test_digits_does_not_import_scikit_learn(run_python: Callable[..., Any]):
    program = "import sys, jaxtrain.data; jaxtrain.data.digits().load('test'); print('sklearn' in sys.modules)"
    done = run_python("-c", program)
    assert done.stdout.strip() == "False"


def test_digits_without_scikit_learn_asks_to_install_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match="install scikit-learn"):
        digits()


@pytest.mark.parametrize(
    "content", [b"", b"no gzip", gzip.compress(b"1,2\n3,4\n", mtime=0), gzip.compress(b"a,b\n", mtime=0)]
)
def test_digits_names_a_damaged_file(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "digits.csv.gz"
    path.write_bytes(content)
    monkeypatch.setattr(module, "_find", lambda: path)
    with pytest.raises(DataError, match=r"digits\.csv\.gz"):
        digits().load("train")
