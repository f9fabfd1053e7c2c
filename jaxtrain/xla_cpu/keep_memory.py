"""malloc settings that keep freed memory in the process, so that a CPU step does not fault its pages in again.

XLA's CPU client frees a step's temporary buffers after the step. glibc always maps and unmaps buffers larger than
32 MiB; the others return to the kernel when the end of the heap is free. Each step then faults the same pages in again,
and the kernel clears each page. With the three settings below, malloc takes all memory from one heap and never shrinks
it. The price is a larger process between its peaks, and gaps in the heap, whose growth `ResidentLimit` limits.

On a GPU or TPU the settings are harmless and of little use, because they affect only host memory. They are made there
too, because finding out which devices exist would start a backend.

This file can be removed when XLA's CPU client keeps temporary buffers from one step to the next.
"""

import ctypes
import os
import sys

ENVIRONMENT_VARIABLE = "JAXTRAIN_KEEP_MEMORY"
"""The environment variable that turns the settings off."""
OFF = ("0", "off", "no", "false")
_MALLOC_VARIABLES = ("MALLOC_ARENA_MAX", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
_SETTINGS = (  # name, number in malloc.h, value
    ("M_TRIM_THRESHOLD", -1, 2**31 - 1),  # never return the end of the heap to the kernel
    ("M_MMAP_MAX", -4, 0),  # never map a buffer separately
    ("M_ARENA_MAX", -8, 1),  # one heap for all threads; further heaps are limited to 64 MiB each
)
_GROWTH_LIMIT = 1.2
"""The factor of the resident memory after the first step above which freed memory is returned to the system."""
_KEPT = "kept by the process"
NOT_STARTED = "given back: neither a command nor jaxtrain.fit has begun in this process"
_outcome = NOT_STARTED


def keep_freed_memory() -> bool:
    """Make glibc's malloc keep freed memory, and return whether it does.

    Call this before jax starts a backend, because the backend's threads would have heaps of their own; later it does
    nothing. It also does nothing without glibc, if JAXTRAIN_KEEP_MEMORY is "off", or if the environment configures
    malloc.
    """
    global _outcome
    if _outcome != _KEPT:
        reason = _find_obstacle() or _configure()
        _outcome = f"given back: {reason}" if reason else _KEPT
    return _outcome == _KEPT


def describe_freed_memory() -> str:
    """Return what happens to freed memory in this process and, if it is given back to the system, why."""
    return _outcome


def _find_obstacle() -> str | None:
    """Return the reason not to configure malloc, or None if there is none."""
    if os.environ.get(ENVIRONMENT_VARIABLE, "").lower() in OFF:
        return f"off ({ENVIRONMENT_VARIABLE})"
    if not has_glibc():
        return "not applicable, this system has no glibc"
    theirs = [name for name in _MALLOC_VARIABLES if name in os.environ]
    if theirs or "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", ""):
        return f"the environment configures malloc ({', '.join(theirs) or 'GLIBC_TUNABLES'})"
    if has_backend():
        return "jax had started its backend before the run began"
    return None


def has_glibc() -> bool:
    """Return whether the process runs on glibc, whose malloc these settings concern."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (ValueError, OSError):  # musl does not know the name
        return False


def has_backend() -> bool:
    """Return whether jax has started a backend; jax's documented functions would start one."""
    bridge = sys.modules.get("jax._src.xla_bridge")
    # If this version of jax lacks the function, assume a started backend; the command line runs before jax is imported.
    return bridge is not None and bool(getattr(bridge, "backends_are_initialized", lambda: True)())


def _configure() -> str | None:
    """Make the settings; return the reason for a failure, or None."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return "not applicable, malloc has no mallopt"
    for name, number, value in _SETTINGS:
        if not mallopt(number, value):
            return f"mallopt refused {name}={value}"
    return None


class ResidentLimit:
    """A limit on the resident memory; beyond it, freed memory is returned to the system.

    A small allocation may take the end of the gap that a step's buffers leave. The next step then needs new memory
    beside the gap, and the heap grows by as much as a step uses.
    """

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if _outcome == _KEPT else None
        self._limit = 0.0

    def check(self) -> None:
        """Check the limit; call this first after the first step and then now and then. It costs some microseconds."""
        if self._trim is None:
            return
        with open("/proc/self/statm", encoding="ascii") as file:
            resident = int(file.read().split()[1])
        if not self._limit:
            self._limit = _GROWTH_LIMIT * resident
        elif resident > self._limit:
            self._trim(0)
