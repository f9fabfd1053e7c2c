"""Imports and light commands load no heavy packages, start no backend and change no setting of jax."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import jaxtrain

HEAVY = {"tensorflow", "tensorflow_datasets", "matplotlib", "sklearn", "torch", "orbax", "tensorboardX", "grain"}
ROOT = str(Path(jaxtrain.__file__).parent.parent)


def python(code: str) -> str:
    """Return the standard output of `code` in a new interpreter."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("JAX", "XLA"))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


EVERY_MODULE = """
import importlib, json, pkgutil, sys
import jax
before = dict(jax.config.values)
import jaxtrain
for name in jaxtrain.__all__:
    getattr(jaxtrain, name)
public = sorted({name.partition(".")[0] for name in sys.modules})
for module in pkgutil.walk_packages(jaxtrain.__path__, "jaxtrain."):
    if module.name != "jaxtrain.__main__":
        importlib.import_module(module.name)
from jax._src import xla_bridge
print(json.dumps({
    "public": public,
    "all": sorted({name.partition(".")[0] for name in sys.modules}),
    "backends": xla_bridge.backends_are_initialized(),
    "changed": [name for name, value in jax.config.values.items() if value is not before.get(name, value)],
}))
"""


@pytest.fixture(scope="module")
def imports() -> dict[str, list[str]]:
    """Import all public names of `jaxtrain`, then all its modules, and return the effects."""
    found: dict[str, list[str]] = json.loads(python(EVERY_MODULE))
    return found


def test_the_public_names_of_jaxtrain_load_no_heavy_package(imports: dict[str, list[str]]) -> None:
    assert "jaxtrain" in imports["public"]
    assert HEAVY.isdisjoint(imports["public"])


def test_no_module_loads_tensorflow_matplotlib_or_sklearn(imports: dict[str, list[str]]) -> None:
    assert {"tensorflow", "matplotlib", "sklearn"}.isdisjoint(imports["all"])


def test_no_module_starts_a_backend(imports: dict[str, list[str]]) -> None:
    assert imports["backends"] is False


def test_no_module_changes_a_setting_of_jax(imports: dict[str, list[str]]) -> None:
    assert imports["changed"] == []


def test_import_jaxtrain_alone_loads_no_jax() -> None:
    assert python("import sys, jaxtrain; print('jax' in sys.modules)") == "False\n"


IMPORTING = """
import gc, time
gc.disable()
def seconds(load):
    start = time.process_time()
    load()
    return time.process_time() - start
def made_of():
    import jax, flax, optax
def offered():
    import jaxtrain
    [getattr(jaxtrain, name) for name in jaxtrain.__all__]
first = seconds(made_of)
print(seconds(offered) / first)
"""


def test_import_time_is_under_40_percent_of_jax_flax_and_optax() -> None:
    """The import time of all public names of `jaxtrain`, relative to jax, flax and optax.

    A busy machine slows down both, so we measure the ratio in one process, several times, without garbage collection.
    An idle machine gives 0.2.
    """
    ratios: list[float] = []
    for _ in range(8):
        ratios.append(float(python(IMPORTING)))
        if ratios[-1] < 0.4:
            return
    pytest.fail(f"jaxtrain's own modules took {[round(r, 2) for r in ratios]} of what jax, flax and optax take")


COMMAND = """
import contextlib, io, json, sys
from jaxtrain.cli.main import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as stderr:
    try:
        code = main({arguments!r})
    except SystemExit as error:
        code = error.code
print(json.dumps([code, sorted({{name.partition(".")[0] for name in sys.modules}}), stderr.getvalue()]))
"""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["train", "--help"], 0),
        (["list", "models"], 0),
        (["list", "optimizers", "*adam*"], 0),
        (["list", "configs"], 0),
        (["list", "modles"], 2),
        (["train", "digits_lenet"], 2),
        (["check", "lost.py"], 2),
        (["diff", "digits_lenet", "lost.json"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_light_commands_load_no_jax(arguments: list[str], code: int) -> None:
    ended, modules, _ = json.loads(python(COMMAND.format(arguments=arguments)))
    assert ended == code
    assert {"jax", "flax", "optax", "numpy"}.isdisjoint(modules)
