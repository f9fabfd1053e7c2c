"""The file `preprocessing.json` of a run directory, and an `.npz` file for preprocessing that needs arrays.

The JSON file is written last and contains the digest of the arrays. Without it, nothing has been stored.
"""

import dataclasses
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from jaxtrain.data.preprocessing.base import Preprocessing
from jaxtrain.data.preprocessing.channels import Normalization
from jaxtrain.data.preprocessing.linear import LinearMap
from jaxtrain.data.preprocessing.pixels import PixelNormalization
from jaxtrain.errors import WorkdirError
from jaxtrain.run.files import convert_os_errors, write_atomically

_FORMS: dict[str, type[Any]] = {"pixels": PixelNormalization, "linear": LinearMap}
"""The kinds of preprocessing that are stored as arrays, one for each field."""

_UNREADABLE = (OSError, EOFError, ValueError, KeyError, TypeError, RecursionError, zipfile.BadZipFile)


def write_preprocessing(path: Path, fitted: Preprocessing) -> None:
    """Write `fitted` to the JSON file `path`, and its arrays to an `.npz` file of the same name, each atomically."""
    if isinstance(fitted, Normalization):
        content: dict[str, Any] = {"normalization": {"mean": fitted.mean, "std": fitted.std}}
    else:
        form = next(name for name, cls in _FORMS.items() if isinstance(fitted, cls))
        buffer = io.BytesIO()
        np.savez(buffer, **{name: getattr(fitted, name) for name in _fields(form)})
        write_atomically(_arrays_file(path), buffer.getvalue())
        content = {"arrays": {"form": form, "sha256": hashlib.sha256(buffer.getvalue()).hexdigest()}}
    write_atomically(path, json.dumps(content, indent=2) + "\n")


def read_preprocessing(path: Path) -> Preprocessing:
    """Return what `write_preprocessing` wrote to `path`; raise `WorkdirError` if a file is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if "normalization" in content:
            stored = content["normalization"]
            return Normalization(tuple(stored["mean"]), tuple(stored["std"]))
        form, digest = content["arrays"]["form"], content["arrays"]["sha256"]
        cls = _FORMS[form]
    except FileNotFoundError:
        raise WorkdirError(
            f"{path.parent} has no {path.name}: its run did not begin to train; run `jaxtrain train` first"
        ) from None
    except _UNREADABLE as error:
        raise WorkdirError(f"{path} cannot be read: {error!r}") from error
    data = _read_verified(_arrays_file(path), digest, path)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            fitted: Preprocessing = cls(**{name: arrays[name] for name in _fields(form)})
            return fitted
    except _UNREADABLE as error:
        raise WorkdirError(
            f"{_arrays_file(path)} does not contain the arrays that {path} describes: {error!r}"
        ) from error


def _read_verified(file: Path, digest: object, path: Path) -> bytes:
    """Return the content of `file`; raise `WorkdirError` if its SHA-256 is not `digest`."""
    advice = (
        f"restore it from a copy; or remove {path} and continue training, which fits it to the training images again"
    )
    try:
        with convert_os_errors(f"read {file}"):
            data = file.read_bytes()
    except WorkdirError as error:
        raise WorkdirError(f"{error}; {advice}") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise WorkdirError(f"{file} is damaged: its SHA-256 is not the one in {path}; {advice}")
    return data


def _arrays_file(path: Path) -> Path:
    return path.with_suffix(".npz")


def _fields(form: str) -> list[str]:
    return [field.name for field in dataclasses.fields(_FORMS[form])]
