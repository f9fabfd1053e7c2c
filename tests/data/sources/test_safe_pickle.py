import collections
import io
import os
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtrain.data.sources.safe_pickle import load_pickle
from jaxtrain.errors import DataError
from tests.conftest import examples

CONTENT: dict[Any, Any] = {
    b"data": np.arange(24, dtype=np.uint8).reshape(4, 6),
    b"labels": [3, 1, 2, 0],
    b"batch_label": b"testing batch 1 of 1",
    b"filenames": [b"a.png", b"b.png"],
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_load_pickle_reads_arrays_and_plain_containers_of_every_protocol(protocol: int):
    content = load_pickle(pickle.dumps(CONTENT, protocol=protocol), "batch")
    np.testing.assert_array_equal(content["data"], CONTENT[b"data"])
    assert content["data"].dtype == np.uint8
    assert {key: content[key] for key in ("labels", "batch_label", "filenames")} == {
        "labels": [3, 1, 2, 0],
        "batch_label": b"testing batch 1 of 1",
        "filenames": [b"a.png", b"b.png"],
    }


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(
    "array",
    [np.arange(6, dtype=">i2").reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.array(7, np.int64)],
)
def test_load_pickle_keeps_byte_order_memory_order_and_shape(array: np.ndarray, protocol: int):
    np.testing.assert_array_equal(load_pickle(pickle.dumps({"a": array}, protocol=protocol), "f")["a"], array)


def test_load_pickle_reads_a_batch_written_by_python_2():
    # Opcode by opcode as in the original files: strings are SHORT_BINSTRING, numpy's module is numpy.core.
    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    dtype = (
        b"cnumpy\ndtype\n"
        + text(b"u1")
        + b"K\0K\1\x87R(K\3"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    )
    blank = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85" + text(b"b") + b"\x87R"
    array = blank + b"(K\1K\2K\3\x86" + dtype + b"\x89" + text(bytes(range(250, 256))) + b"tb"
    batch = b"\x80\2}(" + text(b"data") + array + text(b"labels") + b"]K\5au."
    pickletools.dis(batch, out=io.StringIO())  # raises if it is not well-formed
    content = load_pickle(batch, "batch")
    assert content["data"].tolist() == [[250, 251, 252], [253, 254, 255]]
    assert content["labels"] == [5]


class Hostile:
    """An object that calls a function when it is unpickled, as in a hostile file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_load_pickle_refuses_a_hostile_pickle_without_running_it(tmp_path: Path, protocol: int):
    data = pickle.dumps({b"data": Hostile(tmp_path / "run")}, protocol=protocol)
    with pytest.raises(DataError, match=r"batch cannot be decoded: it refers to (posix|nt)\.mkdir, which is refused"):
        load_pickle(data, "batch")
    assert not (tmp_path / "run").exists()
    pickle.loads(data)
    assert (tmp_path / "run").exists()  # the hostile pickle does work without load_pickle


@pytest.mark.parametrize(
    "content",
    [
        {"a": np.array([print], object)},
        {"a": np.zeros(2, [("x", "u1"), ("y", "f4")])},
        {"a": np.array(["text"])},
        {"a": np.array([np.datetime64("2020-01-01")])},
        {"a": np.uint8(3)},
        {"a": collections.OrderedDict(x=1)},
        {"a": range(3)},
        {"a": 1j},
        {3: 4},
        [1, 2],
        None,
    ],
    ids=lambda content: type(content).__name__,
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_load_pickle_refuses_objects_other_than_numbers_and_containers(content: Any, protocol: int):
    with pytest.raises(DataError, match="batch"):
        load_pickle(pickle.dumps(content, protocol=protocol), "batch")


@pytest.mark.parametrize(
    "opcodes",
    [
        b"cnumpy\ndtype\n}X\1\0\0\0aK\1sb",  # a state for the class itself
        b"cnumpy\nndarray\nN}X\1\0\0\0aK\1s\x86b",  # attributes set through a slot state
        b"cnumpy\nndarray\n)\x81}b",  # a state for an instance of the inert class
        b"cnumpy.core.multiarray\n_reconstruct\n)RK\1b",  # no tuple for a state
        b"c_codecs\nencode\nX\1\0\0\0aX\5\0\0\0rot13\x86R",
        b"c_codecs\nencode\nX\1\0\0\0aX\6\0\0\0latin1\x86R}b",
        b"cnumpy.core.numeric\n_frombuffer\n(NNNNtR}b",
        b"cos\nsystem\n",
        b"c__main__\nx\n",
        b"Punknown\n",  # a persistent id
        b"K\1K\1Q",
        b"\x82\1",  # a code of the copyreg registry
    ],
)
def test_load_pickle_refuses_crafted_opcodes(opcodes: bytes):
    with pytest.raises(DataError, match="batch"):
        load_pickle(b"\x80\2}X\1\0\0\0a" + opcodes + b"s.", "batch")


@pytest.mark.parametrize(
    "array",
    [
        b"cnumpy.core.multiarray\n_reconstruct\n)R",  # an array without contents
        b"cnumpy.core.numeric\n_frombuffer\n(C\1aNK\1X\1\0\0\0CtR",
        b"cnumpy.core.numeric\n_frombuffer\n(C\1acnumpy\ndtype\nX\2\0\0\0u1\x85RX\1\0\0\0aX\1\0\0\0CtR",
        b"cnumpy.core.numeric\n_frombuffer\n(C\1acnumpy\ndtype\nX\2\0\0\0u1\x85RK\2X\1\0\0\0CtR",
        b"cnumpy.core.numeric\n_frombuffer\n(C\3abccnumpy\ndtype\nX\2\0\0\0i2\x85RK\1X\1\0\0\0CtR",
        b"cnumpy.core.numeric\n_frombuffer\n(C\1acnumpy\ndtype\nX\2\0\0\0O8\x85RK\1X\1\0\0\0CtR",
        b"cnumpy.core.numeric\n_frombuffer\n(C\1acnumpy\ndtype\nX\2\0\0\0u1\x85RK\1X\1\0\0\0XtR",
    ],
)
def test_load_pickle_refuses_malformed_arrays(array: bytes):
    with pytest.raises(DataError, match="batch"):
        load_pickle(b"\x80\3}X\1\0\0\0a" + array + b"s.", "batch")


@given(st.data())
@examples(300)
def test_a_damaged_pickle_gives_a_data_error_or_a_dict(data: st.DataObject):
    whole = bytearray(pickle.dumps(CONTENT, protocol=data.draw(st.sampled_from([0, 2, 4]))))
    for _ in range(data.draw(st.integers(0, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    try:
        assert isinstance(load_pickle(bytes(whole[:cut]), "batch"), dict)
    except DataError as error:
        assert "batch" in str(error)  # noqa: PT017
