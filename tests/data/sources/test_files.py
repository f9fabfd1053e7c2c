import errno
import os
import zlib
from pathlib import Path

import pytest

from jaxtrain.data.sources.files import FileSet, FoundFiles, Search, data_directory, is_directory, is_file, reading
from jaxtrain.errors import DataError

PAIR = FileSet("pair", (("a", "a.gz"), ("b", "b.gz")), "a and b (plain or .gz)")
PACKED = FileSet("packed", (("ab.tar",),), "ab.tar")


def search(directory: Path | None, *folders: str) -> Search:
    return Search("letters", directory, folders or ("letters", ""), "example.org/letters")


def test_search_without_a_directory_says_how_to_set_it_and_names_the_files():
    with pytest.raises(DataError) as error:
        search(None).find(PAIR, PACKED)
    for part in ("data.directory", "--data-dir DIR", "JAXTRAIN_DATA", "a and b", "ab.tar", "example.org/letters"):
        assert part in str(error.value)


def test_data_directory_refuses_a_missing_path_or_a_file(tmp_path: Path):
    with pytest.raises(DataError, match="nowhere does not exist"):
        data_directory("letters", tmp_path / "nowhere", "a")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file is not a directory"):
        data_directory("letters", tmp_path / "file", "a")
    with pytest.raises(DataError, match="inside does not exist"):
        data_directory("letters", tmp_path / "file" / "inside", "a")


def test_data_directory_expands_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_directory("letters", Path("~"), "a") == tmp_path


def test_search_takes_the_first_complete_file_set_of_the_first_folder(tmp_path: Path):
    (tmp_path / "letters").mkdir()
    for name in ("a", "b.gz", "letters/ab.tar"):
        (tmp_path / name).touch()
    assert search(tmp_path).find(PAIR, PACKED) == FoundFiles("packed", (tmp_path / "letters/ab.tar",))
    assert search(tmp_path, "").find(PAIR, PACKED) == FoundFiles("pair", (tmp_path / "a", tmp_path / "b.gz"))


def test_a_failed_search_names_folders_files_and_origin(tmp_path: Path):
    with pytest.raises(DataError) as error:
        search(tmp_path).find(PAIR, PACKED)
    assert str(error.value) == (
        f"letters: not found in {tmp_path / 'letters'} and {tmp_path}; expected a and b (plain or .gz), or ab.tar; "
        f"download what is missing from example.org/letters and put it into {tmp_path / 'letters'}"
    )


def test_search_names_the_missing_files_of_an_incomplete_set(tmp_path: Path):
    (tmp_path / "b").touch()
    with pytest.raises(DataError, match=r"letters: found .*b, but not a; download what is missing"):
        search(tmp_path).find(PAIR)


def test_search_does_not_accept_a_directory_as_a_file(tmp_path: Path):
    (tmp_path / "ab.tar").mkdir()
    with pytest.raises(DataError, match="not found in"):
        search(tmp_path).find(PACKED)


def test_errors_of_the_file_system_become_data_errors(tmp_path: Path):
    (tmp_path / "loop").symlink_to("loop")
    for question in (is_file, is_directory):
        with pytest.raises(DataError, match=r"loop cannot be read: .*links"):
            question(tmp_path / "loop")
    with pytest.raises(DataError, match="loop/a cannot be read"):
        search(tmp_path, "loop").find(PAIR)
    with pytest.raises(DataError, match="File name too long"):
        is_file(tmp_path / ("x" * 5000))
    assert not is_file(tmp_path / "zero\0byte")


def test_reading_distinguishes_access_errors_from_damage():
    with pytest.raises(DataError, match="f cannot be read: Permission denied; check that it exists and"), reading("f"):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "f")
    with pytest.raises(DataError, match="f cannot be decoded: bad block; it is damaged"), reading("f", zlib.error):
        raise zlib.error("bad block.\nmore")
    with pytest.raises(DataError, match="f cannot be decoded: EOFError"), reading("f"):
        raise EOFError
    with pytest.raises(KeyError), reading("f", zlib.error):
        raise KeyError("not damage")
