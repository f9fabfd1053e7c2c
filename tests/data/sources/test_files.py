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


def test_an_unconfigured_directory_says_how_to_configure_it_and_what_is_looked_for():
    with pytest.raises(DataError) as error:
        search(None).find(PAIR, PACKED)
    for part in ("data.directory", "--data-dir DIR", "JAXTRAIN_DATA", "a and b", "ab.tar", "example.org/letters"):
        assert part in str(error.value)


def test_a_directory_that_is_not_there_or_is_a_file(tmp_path: Path):
    with pytest.raises(DataError, match="nowhere does not exist"):
        data_directory("letters", tmp_path / "nowhere", "a")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file is not a directory"):
        data_directory("letters", tmp_path / "file", "a")
    with pytest.raises(DataError, match="inside does not exist"):
        data_directory("letters", tmp_path / "file" / "inside", "a")


def test_the_home_directory_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_directory("letters", Path("~"), "a") == tmp_path


def test_the_first_complete_form_of_the_first_folder_is_taken(tmp_path: Path):
    (tmp_path / "letters").mkdir()
    for name in ("a", "b.gz", "letters/ab.tar"):
        (tmp_path / name).touch()
    assert search(tmp_path).find(PAIR, PACKED) == FoundFiles("packed", (tmp_path / "letters/ab.tar",))
    assert search(tmp_path, "").find(PAIR, PACKED) == FoundFiles("pair", (tmp_path / "a", tmp_path / "b.gz"))


def test_nothing_found_names_the_places_the_files_and_the_origin(tmp_path: Path):
    with pytest.raises(DataError) as error:
        search(tmp_path).find(PAIR, PACKED)
    assert str(error.value) == (
        f"letters: not found in {tmp_path / 'letters'} and {tmp_path}; expected a and b (plain or .gz), or ab.tar; "
        f"download what is missing from example.org/letters and put it into {tmp_path / 'letters'}"
    )


def test_an_incomplete_set_names_what_is_missing(tmp_path: Path):
    (tmp_path / "b").touch()
    with pytest.raises(DataError, match=r"letters: found .*b, but not a; download what is missing"):
        search(tmp_path).find(PAIR)


def test_a_directory_is_no_file_of_that_name(tmp_path: Path):
    (tmp_path / "ab.tar").mkdir()
    with pytest.raises(DataError, match="not found in"):
        search(tmp_path).find(PACKED)


def test_what_the_system_refuses_is_a_data_error(tmp_path: Path):
    (tmp_path / "loop").symlink_to("loop")
    for question in (is_file, is_directory):
        with pytest.raises(DataError, match=r"loop cannot be read: .*links"):
            question(tmp_path / "loop")
    with pytest.raises(DataError, match="loop/a cannot be read"):
        search(tmp_path, "loop").find(PAIR)
    with pytest.raises(DataError, match="File name too long"):
        is_file(tmp_path / ("x" * 5000))
    assert not is_file(tmp_path / "zero\0byte")


def test_reading_tells_access_from_damage():
    with pytest.raises(DataError, match="f cannot be read: Permission denied; check that it exists and"), reading("f"):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "f")
    with pytest.raises(DataError, match="f cannot be decoded: bad block; it is damaged"), reading("f", zlib.error):
        raise zlib.error("bad block.\nmore")
    with pytest.raises(DataError, match="f cannot be decoded: EOFError"), reading("f"):
        raise EOFError
    with pytest.raises(KeyError), reading("f", zlib.error):
        raise KeyError("not damage")
