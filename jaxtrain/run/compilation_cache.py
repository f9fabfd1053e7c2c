"""The persistent compilation cache: on by default, since compiling is what a user waits for."""

import os
import warnings
from pathlib import Path

import jax

OFF = ("0", "off", "no", "false")


def cache_directory() -> Path | None:
    """Where compiled programs are kept: JAXTRAIN_COMPILATION_CACHE (a directory, or "off"), else the user's cache."""
    chosen = os.environ.get("JAXTRAIN_COMPILATION_CACHE", "")
    if chosen.lower() in OFF:
        return None
    if chosen:
        return Path(os.path.expanduser(chosen))
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(base or os.path.expanduser("~/.cache")) / "jaxtrain" / "xla"


def enable_compilation_cache() -> None:
    """Turns jax's persistent cache on, thresholds at zero, unless the process has configured one of its own."""
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    directory = cache_directory()
    if directory is None:
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        writable = os.access(directory, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        warnings.warn(f"{directory} is not writable: programs will be compiled anew each time", stacklevel=2)
        return
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
