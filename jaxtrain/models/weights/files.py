"""Reading and writing named arrays as `.safetensors` and `.npz`, two formats that cannot run code when read."""

import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

from jaxtrain.errors import WeightsError

SUFFIXES = (".safetensors", ".npz")
_PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth", ".th")


def read_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Return all arrays of a file by name; bfloat16 stays bfloat16.

    Raises:
      WeightsError: if the file does not exist, is damaged or has another format.
    """
    path = Path(path)
    suffix = _suffix(path)
    try:
        if path.is_dir():
            raise WeightsError(f"{path} is a directory; name one file in it, {' or '.join(SUFFIXES)}")
        if not path.exists():
            raise WeightsError(f"there is no file {path}; check the path")
        if not path.stat().st_size:
            raise WeightsError(f"{path} is empty (0 bytes); copy or download it again")
        arrays = _read_safetensors(path) if suffix == ".safetensors" else _read_npz(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    if not arrays:
        raise WeightsError(f"{path} contains no arrays; save named arrays in it")
    return arrays


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], *, layout: str) -> None:
    """Write contiguous arrays to a file; an old file of that name stays intact until the new one is complete.

    `.npz` has no bfloat16, so these arrays are written as float32, without loss.

    Args:
      path: path of the file; its directory must exist.
      arrays: arrays by name.
      layout: value of the metadata key "format" of `.safetensors`: "pt" or "flax".

    Raises:
      WeightsError: if the file cannot be written.
    """
    path = Path(path)
    suffix = _suffix(path)
    partial = path.with_name(f".{path.name}.partial")
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        if suffix == ".safetensors":
            save_file(dict(arrays), partial, metadata={"format": layout})
        else:
            with partial.open("wb") as file:
                np.savez(file, **{name: _for_npz(array) for name, array in arrays.items()})  # type: ignore[arg-type]
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise WeightsError(f"{path} cannot be written: {getattr(error, 'strerror', '') or error}") from error


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix in _PICKLES:
        raise WeightsError(
            f"{path} is a pickle file, which can run code when it is read; if you trust it, convert it: "
            "safetensors.torch.save_file(torch.load(file, weights_only=True), 'weights.safetensors')"
        )
    if suffix not in SUFFIXES:
        what = f"the suffix {path.suffix!r}" if path.suffix else "no suffix"
        raise WeightsError(f"{path} has {what}; a weight file must be {' or '.join(SUFFIXES)}")
    return suffix


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, TypeError, AttributeError, ValueError) as error:  # such as a dtype that numpy lacks
        raise WeightsError(
            f"{path} is damaged or not a safetensors file: {error}; copy or download it again"
        ) from error


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            if isinstance(arrays, np.ndarray):
                raise WeightsError(
                    f"{path} is a single array without a name (.npy); write named arrays with numpy.savez"
                )
            return {name: _from_npz(arrays[name]) for name in arrays.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError) as error:
        raise WeightsError(f"{path} is damaged or not an .npz file: {error}; copy or download it again") from error


def _for_npz(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype == ml_dtypes.bfloat16 else array


def _from_npz(array: np.ndarray) -> np.ndarray:
    """Restore bfloat16, which numpy itself stores as two untyped bytes."""
    return array.view(ml_dtypes.bfloat16) if array.dtype == np.dtype("V2") else array
