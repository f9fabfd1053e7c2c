"""Memory that is freed stays with the process, so that a step on a CPU does not get it from the kernel again.

XLA's CPU client frees the temporary buffers of a step after the step. Many are larger than the 32 MiB above which glibc
always maps memory and unmaps it again; the others go back to the kernel when the end of the heap is free. So each step
faults the same pages in anew, and the kernel clears each of them. With the three settings below malloc takes all memory
from one heap, and never shrinks it. The price is a larger process. All temporary buffers of a step are one block, and
where the block of the next step does not fit the gap that the last one left, the process grows by one block.
docs/performance.md has what was measured.

On a GPU or TPU the settings do no harm and little good. They concern the memory of the host alone, and no backend may
be started to ask which devices there are, so they are made there too.

This can go when XLA's CPU client keeps temporary buffers from one step to the next.
"""

import ctypes
import os
import sys

SWITCH = "JAXTRAIN_KEEP_MEMORY"
"""The environment variable that turns the settings off."""
OFF = ("0", "off", "no", "false")
_THEIRS = ("MALLOC_ARENA_MAX", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
_SETTINGS = (  # name, number in malloc.h, value
    ("M_TRIM_THRESHOLD", -1, 2**31 - 1),  # never give the end of the heap back
    ("M_MMAP_MAX", -4, 0),  # map no buffer by itself
    ("M_ARENA_MAX", -8, 1),  # all threads share that heap; others are limited to 64 MiB each
)
_KEPT = "kept by the process"
_outcome = "given back: neither a command nor jaxtrain.fit has begun in this process"


def keep_freed_memory() -> bool:
    """Have glibc's malloc keep what is freed, and return whether it does.

    Must be called before jax starts a backend, whose threads would have heaps of their own; later it does nothing. It
    does nothing either where there is no glibc, where JAXTRAIN_KEEP_MEMORY is "off", or where the environment
    configures malloc.
    """
    global _outcome
    if _outcome != _KEPT:
        reason = _why_not() or _configure()
        _outcome = f"given back: {reason}" if reason else _KEPT
    return _outcome == _KEPT


def describe_freed_memory() -> str:
    """Return what happens to freed memory in this process and, where it is given back to the system, why."""
    return _outcome


def _why_not() -> str | None:
    """The reason to leave malloc alone, None where there is none."""
    if os.environ.get(SWITCH, "").lower() in OFF:
        return f"off ({SWITCH})"
    if not _has_glibc():
        return "not applicable, this system has no glibc"
    theirs = [name for name in _THEIRS if name in os.environ]
    if theirs or "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", ""):
        return f"the environment configures malloc ({', '.join(theirs) or 'GLIBC_TUNABLES'})"
    if _has_backend():
        return "jax had started its backend before the run began"
    return None


def _has_glibc() -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (ValueError, OSError):  # musl does not know the name
        return False


def _has_backend() -> bool:
    """Whether jax has started a backend, which asking in the documented way would do."""
    bridge = sys.modules.get("jax._src.xla_bridge")
    # A version of jax without this function counts as started: the command line comes before the import of jax.
    return bridge is not None and bool(getattr(bridge, "backends_are_initialized", lambda: True)())


def _configure() -> str | None:
    """Make the settings; the reason for failure, None for success."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return "not applicable, malloc has no mallopt"
    for name, number, value in _SETTINGS:
        if not mallopt(number, value):
            return f"mallopt refused {name}={value}"
    return None
