"""A safe reader of pickled arrays from untrusted files.

`pickle.load` can run arbitrary code. This unpickler maps the few names that numpy arrays need to plain containers of
this module and rejects every other name. A pickle therefore reaches neither code nor numpy. Afterwards the
containers become arrays, but only those with plain numbers.
"""

import io
import pickle
import re
import struct
from typing import Any

import numpy as np

from jaxtrain.data.sources.files import reading
from jaxtrain.errors import DataError

_PLAIN_NUMBER = re.compile(r"[uif][1248]")
# The exceptions of the unpickler for a broken stream of opcodes.
_DAMAGE = (
    *(pickle.UnpicklingError, AttributeError, ImportError, LookupError, MemoryError, OverflowError, RecursionError),
    *(struct.error, TypeError, ValueError),
)


def load_pickle(data: bytes, path: object) -> dict[str, Any]:
    """Load a pickled dict with str keys; values may be arrays of numbers.

    Strings of Python 2 become bytes, except in keys.

    Args:
      data: the pickle.
      path: the file's name for messages.

    Raises:
      DataError: the pickle is damaged, refers to anything but numpy arrays, or is not a dict.
    """
    with reading(path, *_DAMAGE):
        content = _Unpickler(io.BytesIO(data), encoding="bytes").load()
        if not isinstance(content, dict):
            raise DataError(f"{path} holds a pickled {type(content).__name__} where a dict is expected; replace it")
        return {_text(key): _build_value(value) for key, value in content.items()}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # numpy 2 renamed numpy.core to numpy._core; files with both names exist.
        allowed = _ALLOWED.get((module.replace("numpy._core", "numpy.core"), name))
        if allowed is None:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, which is refused: only arrays are read")
        return allowed


class _Inert:
    """A stand-in for a class that occurs only as an argument; it prevents a pickle from setting attributes."""

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError(f"a state for {type(self).__name__} is refused")


class _Dtype(_Inert):
    """A stand-in for `numpy.dtype`: its code such as `u1`, and the byte order from its state."""

    def __init__(self, code: bytes | str, *flags: object):
        self.code, self.order = _text(code), "|"

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])

    def build(self) -> np.dtype:
        if not _PLAIN_NUMBER.fullmatch(self.code) or self.order not in ("<", ">", "|", "="):
            raise ValueError(f"it holds an array of dtype {self.code!r}; only numeric dtypes can be loaded")
        return np.dtype(self.order + self.code)


class _Array(_Inert):
    """A stand-in for `numpy._core.multiarray._reconstruct`: an empty array; its state holds the contents."""

    def __init__(self, *blank: object):
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, column_major, data = state
        self.state = data, dtype, shape, "F" if column_major else "C"

    def build(self) -> np.ndarray:
        data, dtype, shape, order = self.state
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray) or order not in ("C", "F"):
            raise ValueError("it holds an array of objects, where only plain numbers are read")
        return np.frombuffer(data, dtype.build()).reshape(shape, order=order)


class _FromBuffer(_Array):
    """A stand-in for `numpy._core.numeric._frombuffer`, which protocol 5 uses."""

    def __init__(self, data: object, dtype: object, shape: object, order: object):
        self.state = data, dtype, shape, order

    __setstate__ = _Inert.__setstate__


class _Latin1(bytes):
    """A stand-in for `_codecs.encode`, with which Python 3 pickles bytes in the protocols of Python 2."""

    def __new__(cls, text: str, encoding: str) -> "_Latin1":
        if encoding not in ("latin1", b"latin1"):
            raise pickle.UnpicklingError(f"the encoding {encoding!r} is refused")
        return super().__new__(cls, text.encode("latin1"))

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("a state for bytes is refused")


_ALLOWED: dict[tuple[str, str], type] = {
    ("numpy", "ndarray"): _Inert,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.numeric", "_frombuffer"): _FromBuffer,
    ("_codecs", "encode"): _Latin1,
}


def _text(value: bytes | str) -> str:
    if not isinstance(value, bytes | str):
        raise TypeError(f"a {type(value).__name__} stands where a name is expected")
    return value.decode("latin1") if isinstance(value, bytes) else value


def _build_value(value: Any) -> Any:
    return value.build() if isinstance(value, _Array) else value
