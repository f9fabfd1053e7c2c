"""Checkpoints: how long the loop is blocked, until it is on disk, its size, and restoring; beside bare Orbax and numpy.

The state is that of a ResNet-50 with momentum. Ours adds digests of every file, a manifest and a rename to what Orbax
does, and flushes all to disk, which `np.savez` does not.
"""

import argparse
import functools
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import measuring

MEGABYTES = measuring.Unit("MB", more_is_better=False, decimals=1)
_PARTS = ("blocked", "until on disk", "restore", "size")


def run(args: argparse.Namespace) -> list[str]:
    """The tables."""
    state = _state(args.of[0] if args.of else "resnet50")
    with tempfile.TemporaryDirectory() as folder:
        makers: dict[str, Callable[..., list[float]]] = {"jaxtrain": _ours, "orbax": _orbax, "np.savez": _savez}
        kept: dict[str, list[list[float]]] = {name: [] for name in makers}

        def measure(name: str) -> float:
            kept[name].append(makers[name](state, Path(folder, name)))
            return 0.0

        measuring.in_turns({name: functools.partial(measure, name) for name in makers}, args.rounds)
    lines = []
    for i, part in enumerate(_PARTS):
        found = {name: [values[i] for values in each[1:]] for name, each in kept.items()}
        unit = MEGABYTES if part == "size" else measuring.SECONDS
        lines += [*measuring.report(part, found, "jaxtrain", unit), ""]
    return lines


def _state(model: str) -> Any:
    """A `TrainState` on the device."""
    import jax

    from jaxtrain.config import ModelSpec
    from jaxtrain.optim import sgd
    from jaxtrain.training.state import state_initializer

    built = ModelSpec.parse(model).build(num_classes=10)
    return jax.block_until_ready(jax.jit(state_initializer(built, sgd(0.1, momentum=0.9), (64, 64, 3), 0))())


def _timed(parts: list[Callable[[], Any]]) -> list[float]:
    """Seconds from the beginning to the end of each part."""
    began, ends = time.perf_counter(), []
    for part in parts:
        part()
        ends.append(time.perf_counter() - began)
    return ends


def _restored(restore: Callable[[], Any], folder: Path) -> list[float]:
    """Seconds to restore, and megabytes; nothing is left behind."""
    import jax

    began = time.perf_counter()
    jax.block_until_ready(restore())
    seconds = time.perf_counter() - began
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6
    shutil.rmtree(folder)
    return [seconds, size]


def _ours(state: Any, folder: Path) -> list[float]:
    import contextlib

    import jax

    from jaxtrain.run.checkpoints import Checkpointer, Progress, restore

    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    folder.mkdir()
    with contextlib.closing(Checkpointer(folder, 1)) as saver:
        seconds = _timed([lambda: saver.save(state, 1, Progress()), saver.wait])
    return [*seconds, *_restored(lambda: restore(folder, 1, abstract)[0], folder)]


def _orbax(state: Any, folder: Path) -> list[float]:
    import jax
    import orbax.checkpoint as ocp

    tree = {"params": state.params, "variables": state.variables, "momenta": jax.tree.leaves(state.opt_state)}
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)
    folder.mkdir()
    with ocp.StandardCheckpointer() as saver:
        seconds = _timed([lambda: saver.save(folder.absolute() / "1", tree), saver.wait_until_finished])
        return [*seconds, *_restored(lambda: saver.restore(folder.absolute() / "1", abstract), folder)]


def _savez(state: Any, folder: Path) -> list[float]:
    import jax
    import numpy as np

    folder.mkdir()
    path = folder / "state.npz"
    leaves = jax.tree.leaves(state)

    def load() -> list[Any]:
        with np.load(path) as file:
            return [jax.device_put(file[name]) for name in file.files]

    seconds = _timed([lambda: np.savez(path, *map(np.asarray, leaves)), lambda: None])
    return [*seconds, *_restored(load, folder)]
