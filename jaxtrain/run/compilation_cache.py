"""The persistent compilation cache of jax, which jaxtrain turns on by default because compiling takes long."""

import os
import warnings
from pathlib import Path

import jax

OFF = ("0", "off", "no", "false")


def cache_directory() -> Path | None:
    """Return the directory of compiled programs; None if the cache is off.

    JAXTRAIN_COMPILATION_CACHE sets a directory or "off"; the default is the user's cache directory.
    """
    chosen = os.environ.get("JAXTRAIN_COMPILATION_CACHE", "")
    if chosen.lower() in OFF:
        return None
    if chosen:
        return Path(os.path.expanduser(chosen))
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(base or os.path.expanduser("~/.cache")) / "jaxtrain" / "xla"


def enable_compilation_cache() -> None:
    """Turn on jax's persistent cache for programs of any size, unless the process has already configured one."""
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
        warnings.warn(
            f"the compilation cache {directory} is not writable, so every process compiles its programs again; set "
            "JAXTRAIN_COMPILATION_CACHE to a writable directory, or to off",
            stacklevel=2,
        )
        return
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
