"""Functions that read .npy files and members of .npz files: headers, memory-mapped arrays and arrays."""

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

# The exceptions of the readers for damaged or encrypted zip files, unknown compression methods and broken headers.
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, LookupError, MemoryError, OverflowError),
    *(SyntaxError, TypeError, ValueError, tokenize.TokenError, struct.error),
)
_LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip member: the lengths of its name and of its extra field


class Header(NamedTuple):
    """The header of an array.

    Attributes:
      shape: the array's shape.
      dtype: the dtype of its elements.
      fortran: whether the first axis varies fastest.
      offset: the offset of its data in the file in bytes; None if the data are compressed.
      stored: the number of bytes that the file has for the data.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    offset: int | None
    stored: int

    @property
    def nbytes(self) -> int:
        """The size of the whole array in bytes."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize


def check_examples(images: tuple[Path, str, Header], labels: tuple[Path, str, Header]) -> None:
    """Raise `DataError` if two arrays are not valid images and labels.

    Args:
      images: the file, the name and the header of the images.
      labels: the file, the name and the header of the labels.
    """
    (path, name, header), count = images, (images[2].shape or (0,))[0]
    if header.dtype != np.uint8 or len(header.shape) not in (3, 4) or 0 in header.shape:
        raise DataError(
            f"{path}: {name} is {header.dtype} of shape {header.shape}; images must be uint8 of [N, H, W] "
            "or [N, H, W, C], N > 0"
        )
    path, name, header = labels
    if header.dtype.kind not in "iu" or header.shape not in ((count,), (count, 1)):
        raise DataError(
            f"{path}: {name} is {header.dtype} of shape {header.shape}; the labels of {count:,} images must be "
            f"integers of shape {(count,)}"
        )


def npz_headers(path: Path) -> dict[str, Header]:
    """Read only the headers of the arrays of a .npz file, by name; raise `DataError` for a damaged file."""
    headers = {}
    with reading(path, *_DAMAGE), zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for info in archive.infolist():
            if info.filename.endswith(".npy"):
                with archive.open(info) as stream:
                    header = _read_header(stream, info.file_size)
                    if info.compress_type == zipfile.ZIP_STORED:
                        file.seek(info.header_offset)
                        name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
                        begin = info.header_offset + _LOCAL_HEADER.size + name + extra
                        header = header._replace(offset=begin + stream.tell())
                headers[info.filename.removesuffix(".npy")] = header
    return headers


def npy_header(path: Path) -> Header:
    """Read the header of a .npy file; raise `DataError` for a damaged file."""
    with reading(path, *_DAMAGE), path.open("rb") as stream:
        header = _read_header(stream, path.stat().st_size)
        return header._replace(offset=stream.tell())


def check_complete(path: Path, name: str, header: Header) -> None:
    """Raise `DataError` if an array is truncated or contains Python objects."""
    if header.dtype.hasobject:
        raise DataError(f"{path}: {name} contains Python objects; save it as an array of numbers")
    if header.stored < header.nbytes:
        raise DataError(
            f"{path}: {name} is truncated: the file has {header.stored:,} of the {header.nbytes:,} bytes of its shape "
            f"{header.shape}; replace the file"
        )


def memory_map(path: Path, headers: Mapping[str, Header]) -> dict[str, np.ndarray]:
    """Memory-map arrays of a file, read-only; a page is read from disk at its first use.

    Args:
      path: the path of a .npy file, or of a .npz file with uncompressed arrays.
      headers: the headers of the requested arrays, each with its `offset`.

    Raises:
      DataError: the file cannot be read, or it is shorter than before.
    """
    with reading(path, *_DAMAGE), path.open("rb") as file:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return {
            name: np.ndarray(h.shape, h.dtype, memory, h.offset or 0, order="F" if h.fortran else "C")
            for name, h in headers.items()
        }


def read_npz(path: Path, name: str) -> np.ndarray:
    """Read an array of a .npz file and verify its checksum."""
    with reading(f"{path}, array {name},", *_DAMAGE), np.load(path, allow_pickle=False) as archive:
        return np.asarray(archive[name])


def convert_labels(labels: np.ndarray) -> np.ndarray:
    """Convert integer labels [N] or [N, 1] to int32[N]; negative labels and those above int32's range become -1."""
    flat = labels.reshape(-1)
    small = flat.astype(np.int32)
    small[(flat < 0) | (flat > np.iinfo(np.int32).max)] = -1
    return small


def _read_header(stream: IO[bytes], size: int) -> Header:
    """Read the header at the beginning of a stream of `size` bytes; the stream is then at the data."""
    version = np.lib.format.read_magic(stream)
    # Version 3.0 differs from 2.0 only in UTF-8 field names, and arrays with fields are rejected anyway.
    parse = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        parse = np.lib.format.read_array_header_2_0
    shape, fortran, dtype = parse(stream)
    return Header(shape, dtype, fortran, None, size - stream.tell())
