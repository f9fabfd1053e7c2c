"""What a user waits for: imports, `--help`, `check`, and ten steps with a cold and a warm compilation cache.

Each measurement is a process of its own, from its start to its end.
"""

import argparse
import functools
import sys
import tempfile
from pathlib import Path

from benchmarks import measuring
from benchmarks.measuring import Measure

_STEP = (
    "train",
    "digits_lenet5",
    "train_for=10 steps",
    "evaluation.every=1 steps",
    "logging.tensorboard=false",
    "--quiet",
)
"""Ten steps, the evaluation and the save that end every run."""


def run(args: argparse.Namespace) -> list[str]:
    """The tables."""
    with tempfile.TemporaryDirectory() as folder:
        cold, warm = Path(folder, "cold"), Path(folder, "warm")
        tables: dict[str, dict[str, Measure]] = {
            "imports": {
                "import jaxtrain": _python("-c", "import jaxtrain"),
                "import jax": _python("-c", "import jax"),
                "import jax, flax.linen, optax": _python("-c", "import jax, flax.linen, optax"),
                "everything jaxtrain trains with": _python("-c", "import jaxtrain.run.fit"),
            },
            "commands": {
                "jaxtrain --help": _jaxtrain("--help"),
                "jaxtrain list models": _jaxtrain("list", "models"),
                "jaxtrain check digits_lenet5": _jaxtrain("check", "digits_lenet5"),
            },
            "ten steps": {
                "warm cache": functools.partial(_ten_steps, warm, keep=True),
                "cold cache": functools.partial(_ten_steps, cold, keep=False),
            },
        }
        lines = []
        for title, contenders in tables.items():
            found = measuring.in_turns(contenders, args.rounds)
            lines += [*measuring.report(title, found, next(iter(contenders)), measuring.SECONDS), ""]
    return lines


def _ten_steps(cache: Path, *, keep: bool) -> float:
    """Ten steps by the command line, with the cache in `cache`, which is kept for the next time or new each time."""
    with tempfile.TemporaryDirectory(dir=cache.parent) as folder:
        chosen = cache if keep else Path(folder, "cache")
        environment = {"JAXTRAIN_COMPILATION_CACHE": str(chosen)}
        return measuring.whole_process([*_COMMAND, *_STEP, "--workdir", str(Path(folder, "run"))], environment)


_COMMAND = (sys.executable, "-m", "jaxtrain")


def _python(*arguments: str) -> Measure:
    return functools.partial(measuring.whole_process, [sys.executable, *arguments])


def _jaxtrain(*arguments: str) -> Measure:
    return functools.partial(measuring.whole_process, [*_COMMAND, *arguments])
