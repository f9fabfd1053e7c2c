"""Compilation and loading of the native kernels: built once per machine by its C++ compiler, kept in the user's cache.

The kernels are optional. Without a compiler, or with JAXTRAIN_NATIVE=off, XLA's convolutions are used.
"""

import ctypes
import dataclasses
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import jax

from jaxtrain.xla_cpu.convolutions.kernel_selection import Kernel

SWITCH = "JAXTRAIN_NATIVE"
"""The environment variable that turns the kernels off, or names the directory where they are kept."""
OFF = ("0", "off", "no", "false")
SOURCE = Path(__file__).with_name("kernels.cc")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-mprefer-vector-width=512", "-fPIC", "-shared", "-w", "-pthread")
COMPILERS = ("c++", "g++", "clang++")
_SYMBOLS: dict[Kernel, str] = {"forward": "JaxtrainForward", "weight_gradient": "JaxtrainWeightGradient"}
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class KernelLibrary:
    """The native kernels after they are built, loaded and registered with XLA.

    Attributes:
      path: the shared object.
      targets: the names by which XLA calls the kernels. They change with the source, so that a program in the
        compilation cache never calls another kernel than the one it was compiled with.
    """

    path: Path
    targets: Mapping[Kernel, str]


@functools.cache
def load_kernels() -> KernelLibrary | None:
    """Return the kernels of this machine and build them if necessary; None if they are off or cannot be built."""
    directory = kernel_directory()
    compiler = find_compiler()
    if directory is None:
        return None
    if compiler is None:
        _log.info(
            "no C++ compiler found (%s): using XLA's convolutions, which train slower on a CPU", ", ".join(COMPILERS)
        )
        return None
    digest = _digest(compiler)
    path = directory / f"convolutions-{digest}.so"
    try:
        if not path.exists():
            _build(compiler, path)
        loaded = ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip()[-500:]
        _log.warning("the native convolutions cannot be built, so XLA's are used: %s", reason)
        return None
    targets: dict[Kernel, str] = {}
    for kernel, symbol in _SYMBOLS.items():
        targets[kernel] = f"jaxtrain_{kernel}_{digest}"
        jax.ffi.register_ffi_target(targets[kernel], jax.ffi.pycapsule(getattr(loaded, symbol)), platform="cpu")
    return KernelLibrary(path, targets)


def find_compiler() -> str | None:
    """Return the path of this machine's C++ compiler, or None if there is none on PATH."""
    return next(filter(None, map(shutil.which, COMPILERS)), None)


def kernel_directory() -> Path | None:
    """Return the kernels' directory: JAXTRAIN_NATIVE or the user's cache; None if JAXTRAIN_NATIVE is "off"."""
    chosen = os.environ.get(SWITCH, "")
    if chosen.lower() in OFF:
        return None
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(base or os.path.expanduser("~/.cache")) / "jaxtrain" / "kernels"


def _digest(compiler: str) -> str:
    """Return a digest of what the shared object depends on: source, jaxlib, compiler, flags and processor."""
    digest = hashlib.sha256(SOURCE.read_bytes())
    for part in (metadata.version("jaxlib"), compiler, *FLAGS, platform.machine(), _processor()):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:16]


def _processor() -> str:
    """Return the processor's features if the system lists them; different machines may share a home directory."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _build(compiler: str, path: Path) -> None:
    """Compile to a temporary name first, so that processes that build at the same time do not interfere."""
    _log.info("building the native convolutions for this machine (once): %s", path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        output = Path(folder, path.name)
        command = [compiler, *FLAGS, f"-I{jax.ffi.include_dir()}", str(SOURCE), "-o", str(output)]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
        output.replace(path)
