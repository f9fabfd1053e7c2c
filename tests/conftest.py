"""Settings that catch what nobody thought of, and what several test files share.

Emulated CPU devices need threads of their own (NPROC), and both that and their number are fixed when jax starts.
"""

import os
from pathlib import Path

os.environ.setdefault("NPROC", "16")
_CACHE = Path(__file__).parent.parent / ".cache" / "xla"
os.environ["JAXTRAIN_COMPILATION_CACHE"] = str(_CACHE)
os.environ["JAXTRAIN_NATIVE"] = str(_CACHE.parent / "kernels")
os.environ["JAXTRAIN_KEEP_MEMORY"] = "off"  # one process of the suite trains many nets, and would keep it for all
os.environ.pop("JAXTRAIN_DATA", None)
# Nets here are tiny and run a few steps: up to a third of the time goes to optimizations that they never repay.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=1".strip()

import jax
import pytest

from jaxtrain.config import Config, DataConfig
from jaxtrain.run.compilation_cache import enable_compilation_cache

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_debug_key_reuse", True)
enable_compilation_cache()

# A process takes a whole file, which then makes its fixtures and compiles its functions once.
_LONGEST = (
    *("test_contract.py", "test_kill.py", "test_zoo_runs.py", "test_fit.py", "test_lbfgs.py"),
    *("test_trajectories.py", "test_bad_runs.py", "test_imports.py", "test_step.py", "test_training.py"),
    *("test_processes.py", "test_trajectories_on_devices.py", "test_torchvision.py", "test_stored_runs.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest go first, so that none of them is what all wait for in the end."""
    items.sort(key=lambda item: item.path.name not in _LONGEST)


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
