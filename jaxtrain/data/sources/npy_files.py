"""Arrays in .npy files and in the members of .npz files: their headers, and the arrays themselves mapped or read."""

import mmap
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from jaxtrain.data.sources.files import reading
from jaxtrain.errors import DataError

# What a damaged zip, an encrypted one, one of an unknown method, or a broken header makes the readers raise.
DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, LookupError, MemoryError, OverflowError),
    *(SyntaxError, TypeError, ValueError, tokenize.TokenError, struct.error),
)
_LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip's member: the lengths of its name and of what follows that


class Header(NamedTuple):
    """What is known of an array before it is read.

    Attributes:
      shape: of the array.
      dtype: of its elements.
      fortran: whether the first axis varies fastest.
      offset: where its bytes begin in the file; None where they are compressed.
      stored: bytes that are there for it, as far as the file says.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    offset: int | None
    stored: int

    @property
    def nbytes(self) -> int:
        """Of the whole array."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize


def check_examples(images: tuple[Path, str, Header], labels: tuple[Path, str, Header]) -> None:
    """Holds two arrays, each with its file and its name, to what images and their labels are; raises `DataError`."""
    (path, name, header), count = images, (images[2].shape or (0,))[0]
    if header.dtype != np.uint8 or len(header.shape) not in (3, 4) or 0 in header.shape:
        raise DataError(
            f"{path}: {name} is {header.dtype} of shape {header.shape}; images are uint8 of [N, H, W] or "
            "[N, H, W, C], N > 0"
        )
    path, name, header = labels
    if header.dtype.kind not in "iu" or header.shape not in ((count,), (count, 1)):
        raise DataError(
            f"{path}: {name} is {header.dtype} of shape {header.shape}; the labels of {count:,} images are whole "
            f"numbers of shape {(count,)}"
        )


def npz_headers(path: Path) -> dict[str, Header]:
    """The header of every array of a .npz file by its name, without reading one; `DataError` for a damaged file."""
    headers = {}
    with reading(path, *DAMAGE), zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for info in archive.infolist():
            if info.filename.endswith(".npy"):
                with archive.open(info) as stream:
                    header = _header(stream, info.file_size)
                    if info.compress_type == zipfile.ZIP_STORED:
                        file.seek(info.header_offset)
                        name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
                        begin = info.header_offset + _LOCAL_HEADER.size + name + extra
                        header = header._replace(offset=begin + stream.tell())
                headers[info.filename.removesuffix(".npy")] = header
    return headers


def npy_header(path: Path) -> Header:
    """The header of a .npy file; `DataError` for a damaged one."""
    with reading(path, *DAMAGE), path.open("rb") as stream:
        header = _header(stream, path.stat().st_size)
        return header._replace(offset=stream.tell())


def check_whole(path: Path, name: str, header: Header) -> None:
    """Refuses an array whose file ends before it does, or that holds Python objects."""
    if header.dtype.hasobject:
        raise DataError(f"{path}: {name} holds Python objects; save it as an array of numbers")
    if header.stored < header.nbytes:
        raise DataError(
            f"{path}: {name} is cut off: {header.stored:,} of the {header.nbytes:,} bytes of its shape {header.shape} "
            "are there; replace the file"
        )


def mapped(path: Path, headers: Mapping[str, Header]) -> dict[str, np.ndarray]:
    """Arrays of a file where they lie, read-only: their pages are read when they are looked at.

    Args:
      path: of a .npy file, or of a .npz file whose arrays are not compressed.
      headers: of the arrays that are wanted, each with its `offset`.

    Raises:
      DataError: the file cannot be read, or has become shorter.
    """
    with reading(path, *DAMAGE), path.open("rb") as file:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return {
            name: np.ndarray(h.shape, h.dtype, memory, h.offset or 0, order="F" if h.fortran else "C")
            for name, h in headers.items()
        }


def read_npz(path: Path, name: str) -> np.ndarray:
    """An array of a .npz file, held to the file's checksum."""
    with reading(f"{path}, array {name},", *DAMAGE), np.load(path, allow_pickle=False) as archive:
        return np.asarray(archive[name])


def small_labels(labels: np.ndarray) -> np.ndarray:
    """int32[N] of whole numbers [N] or [N, 1]; one that int32 cannot hold is out of every range and becomes -1."""
    flat = labels.reshape(-1)
    small = flat.astype(np.int32)
    small[(flat < 0) | (flat > np.iinfo(np.int32).max)] = -1
    return small


def _header(stream: IO[bytes], size: int) -> Header:
    """The header with which a stream of `size` bytes begins; the stream stands behind it."""
    version = np.lib.format.read_magic(stream)
    # Version 3.0 differs in that names of fields may be in UTF-8; arrays with fields are refused anyway.
    parse = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        parse = np.lib.format.read_array_header_2_0
    shape, fortran, dtype = parse(stream)
    return Header(shape, dtype, fortran, None, size - stream.tell())
