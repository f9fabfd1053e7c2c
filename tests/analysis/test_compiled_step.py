"""`jaxtrain check --compile`: it compiles the run's programs into the cache and reports XLA's memory analysis."""

from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from jaxtrain.analysis.compiled_step import compile_step
from jaxtrain.analysis.cost import tree_bytes
from jaxtrain.analysis.memory import abstract_examples, abstract_order, abstract_state
from jaxtrain.cli.main import main
from jaxtrain.config import Config, ParallelConfig, dumps
from jaxtrain.errors import OutOfMemory
from jaxtrain.training.plan import make_plan
from tests.conftest import tiny_config

STREAMED = tiny_config().data.replace(stream=True)
FSDP = ParallelConfig(fsdp=True, fsdp_min_size=100)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Path]:
    """Set up an empty compilation cache."""
    before, directory = jax.config.values["jax_compilation_cache_dir"], tmp_path / "cache"
    jax.config.update("jax_compilation_cache_dir", str(directory))
    compilation_cache.reset_cache()
    yield directory
    jax.config.update("jax_compilation_cache_dir", before)
    compilation_cache.reset_cache()


def programs(cache: Path) -> set[str]:
    return {path.name for path in cache.glob("*-cache")}


def write_config(tmp_path: Path, config: Config) -> str:
    path = tmp_path / "config.json"
    path.write_text(dumps(config))
    return str(path)


@pytest.mark.quick_cases("one device")
@pytest.mark.parametrize(
    ("config", "step"),
    [
        (tiny_config(train_for="2 steps"), "jit_several_steps"),
        (tiny_config(train_for="2 steps", devices=4, parallel=FSDP), "jit_several_steps"),
        (tiny_config(train_for="2 steps", data=STREAMED), "jit_loop_step"),
    ],
    ids=["one device", "fsdp", "streamed"],
)
def test_training_after_check_compile_finds_the_step_in_the_cache(
    config: Config, step: str, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_config(tmp_path, config)
    files = set(tmp_path.iterdir())
    assert main(["check", file, "--compile"]) == 0
    assert set(tmp_path.iterdir()) == {*files, cache}  # no run directory
    assert f"kept in {cache}" in capsys.readouterr().out.replace("\n", "")
    compiled = programs(cache)
    names = {name.split("-")[0] for name in compiled}
    assert {"jit_init", step} <= names
    assert main(["train", file, "--workdir", str(tmp_path / "run"), "--quiet"]) == 0
    new = {name.split("-")[0] for name in programs(cache) - compiled}
    assert new  # the evaluation program is new in the cache
    assert not new & names


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [tiny_config(), tiny_config(devices=4, parallel=FSDP), tiny_config(data=STREAMED)],
    ids=["one device", "fsdp", "streamed"],
)
def test_the_argument_memory_of_the_compiled_step_equals_the_count_by_shapes(config: Config) -> None:
    plan = make_plan(config)
    found = compile_step(plan).memory()
    assert found is not None
    trees = (abstract_state(plan), abstract_examples(plan), abstract_order(plan))
    leaves = [jax.ShapeDtypeStruct(x.sharding.shard_shape(x.shape), x.dtype) for x in jax.tree.leaves(trees)]
    assert 0 <= found["arguments"] - tree_bytes(leaves) <= 64  # a few scalars: metrics and the number of steps
    assert 0 < found["aliased"] <= found["outputs"]
    assert found["temporaries"] > 0


@pytest.mark.parametrize(
    ("parallel", "said"),
    [
        (ParallelConfig(backend="pmap"), "not available for parallel.backend=pmap"),
        (ParallelConfig(axis_types="explicit"), "not available for parallel.axis_types=explicit"),
    ],
    ids=["pmap", "explicit"],
)
def test_check_compile_reports_settings_it_does_not_support(
    parallel: ParallelConfig, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_config(tmp_path, tiny_config(devices=2, parallel=parallel))
    assert main(["check", file, "--compile"]) == 1
    assert f"compiled step: {said}" in capsys.readouterr().out


def test_compile_step_reports_that_memory_ran_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory")

    monkeypatch.setattr(jax.stages.Lowered, "compile", fail)
    with pytest.raises(OutOfMemory, match=r"while the training step was compiled.*data.micro_batch=4"):
        compile_step(make_plan(tiny_config()))
