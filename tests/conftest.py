"""Settings that catch what nobody thought of, and what several test files share.

Emulated CPU devices need threads of their own (NPROC), and both that and their number are fixed when jax starts.
"""

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("NPROC", "16")
_CACHE = Path(__file__).parent.parent / ".cache" / "xla"
os.environ["JAXTRAIN_COMPILATION_CACHE"] = str(_CACHE)
os.environ["JAXTRAIN_NATIVE"] = str(_CACHE.parent / "kernels")
os.environ["JAXTRAIN_KEEP_MEMORY"] = "off"  # one process of the suite trains many nets, and would keep it for all
os.environ.pop("JAXTRAIN_DATA", None)
# Nets here are tiny and run a few steps: most of the time would go to optimizations that they never repay. With --all
# and --exhaustive, programs are compiled more as users have them.
_COMPILE_FAST = "--xla_backend_optimization_level=0"
if version("jaxlib") < "0.11":  # later ones end the process over a flag that they have no more
    _COMPILE_FAST += " --xla_cpu_use_fusion_emitters=false"
_COMPILE_FULLY = "--xla_backend_optimization_level=1"

import jax
import pytest
from hypothesis import settings

from jaxtrain.config import Config, DataConfig
from jaxtrain.run.compilation_cache import enable_compilation_cache
from tests.levels import mark_cases

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_debug_key_reuse", True)
enable_compilation_cache()

_EXAMPLES = {"default": 25, "all": 100, "exhaustive": 1000}
"""Of a property that does not say how many it wants."""
OPTIMIZE = {"xla_backend_optimization_level": 1}
"""Compiler options for a program that loops over convolutions, which else take forty times as long."""
_LEFT_OUT = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="also run the tests that are marked slow")
    parser.addoption("--exhaustive", action="store_true", help="run every test, those that take an hour included")


def pytest_configure(config: pytest.Config) -> None:
    """Where more time is given, compile as users do and try a property on more examples."""
    flags = os.environ.get("XLA_FLAGS", "")
    wanted = _COMPILE_FULLY if config.option.all or config.option.exhaustive else _COMPILE_FAST
    if wanted not in flags:  # a process of pytest-xdist inherits them
        os.environ["XLA_FLAGS"] = f"{flags} {wanted}".strip()  # read when the first program is compiled
    level = "exhaustive" if config.option.exhaustive else "all" if config.option.all else "default"
    settings.register_profile(f"jaxtrain {level}", max_examples=_EXAMPLES[level], deadline=None)
    settings.load_profile(f"jaxtrain {level}")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked slow or exhaustive, unless an option, a node id or `-m` asks for it."""
    mark_cases(items)
    if config.option.exhaustive or config.option.markexpr:
        return
    markers = {"exhaustive"} if config.option.all else {"slow", "exhaustive"}
    asked = [_absolute_id(config, argument) for argument in config.args if "::" in argument]
    kept, left_out = [], []
    for item in items:
        marked = any(item.get_closest_marker(marker) for marker in markers)
        (left_out if marked and not _is_asked_for(item, asked) else kept).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left_out)
    config.stash[_LEFT_OUT] = len(left_out)


def _absolute_id(config: pytest.Config, argument: str) -> str:
    path, _, name = argument.partition("::")
    return f"{(config.invocation_params.dir / path).resolve()}::{name}"


def _is_asked_for(item: pytest.Item, asked: list[str]) -> bool:
    """Whether one of the ids is that of the test, of all its cases or of its class."""
    own = f"{item.path.resolve()}::{item.nodeid.partition('::')[2]}"
    return any(own == one or own.startswith((f"{one}[", f"{one}::")) for one in asked)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of pytest-xdist reports how many tests it left out; each leaves out the same."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash.get(_LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[_LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    left_out = config.stash.get(_LEFT_OUT, 0)
    if left_out:
        option = "--exhaustive" if config.option.all else "--all or --exhaustive"
        terminalreporter.write_line(f"{left_out} slow tests were left out; {option} runs them.")


def slow(*values: Any) -> Any:
    """Return a case of `pytest.mark.parametrize` that is marked slow."""
    return pytest.param(*values, marks=pytest.mark.slow)


def examples(count: int, **options: Any) -> settings:
    """Return the settings of a property that is tried on `count` examples with --all, and on fewer in a plain run."""
    return settings(max_examples=max(5, count * settings.default.max_examples // _EXAMPLES["all"]), **options)


def tiny_config(**changes: object) -> Config:
    """A run that takes a second: a small net with dropout on 96 synthetic 4x4 images, 12 steps of 16."""
    settings: dict[str, object] = {
        "model": "mlp(widths=[8], dropout_rate=0.25)",
        "data": DataConfig(
            dataset="synthetic(height=4, width=4, channels=1, num_classes=3, train_examples=96, test_examples=20)",
            batch_size=16,
            validation="16 examples",
            augment="flip_lr",
        ),
        "optimizer": "sgd(learning_rate='cosine(0.1)', momentum=0.9)",
        "train_for": "12 steps",
        "devices": 1,
    }
    return Config(**{**settings, **changes})  # type: ignore[arg-type]


@pytest.fixture
def config() -> Config:
    return tiny_config()
