"""Diagnosis of the environment for `jaxtrain doctor`: versions, devices, caches and data."""

import os
import platform
from pathlib import Path

from jaxtrain.data import DATASETS
from jaxtrain.errors import JaxtrainError
from jaxtrain.run.compilation_cache import cache_directory
from jaxtrain.run.result import versions
from jaxtrain.xla_cpu.keep_memory import describe_freed_memory

Rows = list[tuple[str, str]]


def diagnose(data_dir: str | None = None) -> dict[str, Rows]:
    """Return rows `(name, text)` on versions, devices, caches and data, by title."""
    return {"versions": list(versions().items()), "devices": _devices(), "caches": _caches(), "data": _data(data_dir)}


def _devices() -> Rows:
    import jax

    rows = [("machine", f"{platform.machine()}, {os.cpu_count()} cores"), ("freed memory", describe_freed_memory())]
    try:
        devices = jax.devices()
    except RuntimeError as error:
        return [*rows, ("backend", f"does not start: {error}")]
    rows.append(("backend", jax.default_backend()))
    rows.extend((f"device {d.id}", d.device_kind) for d in devices)
    return rows


def _caches() -> Rows:
    directory = cache_directory()
    native = ("native convolutions", _native_kernels())
    if directory is None:
        return [("compiled programs", "off (JAXTRAIN_COMPILATION_CACHE)"), native]
    if not directory.is_dir():
        return [("compiled programs", f"{directory} (not created yet)"), native]
    files = [f for f in directory.rglob("*") if f.is_file()]
    size = sum(f.stat().st_size for f in files) / 2**20
    state = "" if os.access(directory, os.W_OK) else ", NOT WRITABLE"
    return [("compiled programs", f"{directory} ({len(files)} files, {size:.1f} MiB{state})"), native]


def _native_kernels() -> str:
    """Return the directory of the native CPU kernels, or the reason why there are none."""
    from jaxtrain.xla_cpu.convolutions.native import SWITCH, find_compiler, kernel_directory

    directory, compiler = kernel_directory(), find_compiler()
    if directory is None:
        return f"off ({SWITCH})"
    if compiler is None:
        return "none: no C++ compiler was found"
    built = len(list(directory.glob("*.so"))) if directory.is_dir() else 0
    return f"{directory} ({f'{built} built' if built else 'built when first needed'}, by {compiler})"


def _data(data_dir: str | None) -> Rows:
    directory = data_dir or os.environ.get("JAXTRAIN_DATA")
    rows: Rows = [("directory", directory or "none: give --data-dir or set JAXTRAIN_DATA")]
    path = Path(os.path.expanduser(directory)) if directory else None
    for name, info in DATASETS.items():
        if not info.reference:
            continue
        options = {"directory": path} if "directory" in info.supplied else {}
        try:
            found = DATASETS.create(name, **options)
            rows.append((name, "found: " + ", ".join(f"{n:,} {split}" for split, n in found.sizes.items())))
        except JaxtrainError as error:
            rows.append((name, str(error) if not options else "not found"))
    return rows
