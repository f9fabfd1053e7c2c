"""The native kernels: compiled once for this machine by its own C++ compiler, kept in the user's cache.

They are optional. Without a compiler, or with JAXTRAIN_NATIVE=off, XLA's convolutions are used.
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

from jaxtrain.xla_cpu.convolutions.tasks import Kernel

SWITCH = "JAXTRAIN_NATIVE"
"""The environment variable that turns the kernels off; one that names a directory is where they are kept."""
OFF = ("0", "off", "no", "false")
SOURCE = Path(__file__).with_name("kernels.cc")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-mprefer-vector-width=512", "-fPIC", "-shared", "-w", "-pthread")
COMPILERS = ("c++", "g++", "clang++")
_SYMBOLS: dict[Kernel, str] = {"forward": "JaxtrainForward", "weight_gradient": "JaxtrainWeightGradient"}
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Library:
    """Kernels that are built, loaded and known to XLA.

    Attributes:
      path: the shared object.
      targets: the names that XLA calls them by. They change with the source, so that a program in the compilation cache
        never calls another kernel than the one that it was compiled with.
    """

    path: Path
    targets: Mapping[Kernel, str]


@functools.cache
def library() -> Library | None:
    """The kernels of this machine, built if they are not; None where they are turned off or cannot be built."""
    directory = kernel_directory()
    compiler = find_compiler()
    if directory is None:
        return None
    if compiler is None:
        _log.info("no C++ compiler is found, so XLA's own convolutions are used, which train slower on a CPU")
        return None
    digest = _digest(compiler)
    path = directory / f"convolutions-{digest}.so"
    try:
        if not path.exists():
            _build(compiler, path)
        loaded = ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip()[-500:]
        _log.warning("the native convolutions cannot be built, so XLA's own are used: %s", reason)
        return None
    targets: dict[Kernel, str] = {}
    for kernel, symbol in _SYMBOLS.items():
        targets[kernel] = f"jaxtrain_{kernel}_{digest}"
        jax.ffi.register_ffi_target(targets[kernel], jax.ffi.pycapsule(getattr(loaded, symbol)), platform="cpu")
    return Library(path, targets)


def find_compiler() -> str | None:
    """The C++ compiler of this machine, None where there is none on the path."""
    return next(filter(None, map(shutil.which, COMPILERS)), None)


def kernel_directory() -> Path | None:
    """Where kernels are kept: JAXTRAIN_NATIVE (a directory, or "off"), else the user's cache."""
    chosen = os.environ.get(SWITCH, "")
    if chosen.lower() in OFF:
        return None
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(base or os.path.expanduser("~/.cache")) / "jaxtrain" / "kernels"


def _digest(compiler: str) -> str:
    """Of everything that a shared object depends on: source, XLA's interface, compiler and processor."""
    found = hashlib.sha256(SOURCE.read_bytes())
    for part in (metadata.version("jaxlib"), compiler, *FLAGS, platform.machine(), _processor()):
        found.update(part.encode() + b"\0")
    return found.hexdigest()[:16]


def _processor() -> str:
    """What the processor can do, where the system says so: a home may be shared by unlike machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _build(compiler: str, path: Path) -> None:
    """Compiles to a name of its own first, so that processes that do so at once do not meet."""
    _log.info("building the native convolutions for this machine, once: %s", path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder, path.name)
        command = [compiler, *FLAGS, f"-I{jax.ffi.include_dir()}", str(SOURCE), "-o", str(made)]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
        made.replace(path)
