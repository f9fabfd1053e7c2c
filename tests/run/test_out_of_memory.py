"""Out of memory: the message names the phase of the run and the settings that need less."""

import re
from pathlib import Path
from typing import Any

import jax
import pytest

import jaxtrain
from jaxtrain.cli.main import main
from jaxtrain.errors import OutOfMemory
from jaxtrain.run import out_of_memory as memory
from jaxtrain.run.out_of_memory import explain_out_of_memory
from tests.conftest import tiny_config

XLA = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes."


@pytest.mark.parametrize(
    ("doing", "changes", "names"),
    [
        (memory.TRAINING, {}, ["data.micro_batch=4", "a smaller data.batch_size than 16", "precision=bfloat16"]),
        (memory.TRAINING, {"model": "cifar_resnet(depth=8)"}, ["model.remat=true"]),
        (memory.TRAINING, {"data": tiny_config().data.replace(micro_batch=8)}, ["a smaller data.micro_batch than 8"]),
        (memory.EVALUATION, {}, ["a smaller evaluation.batch_size than 500"]),
        (memory.DATA, {}, ["data.stream=true", "data.decode"]),
        (memory.INITIALIZATION, {"devices": None}, ["parallel.fsdp=true"]),
        (memory.INITIALIZATION, {}, ["a smaller model", "more devices"]),
    ],
)
def test_the_out_of_memory_message_names_settings_that_need_less(
    doing: str, changes: dict[str, Any], names: list[str]
) -> None:
    with pytest.raises(OutOfMemory) as caught, explain_out_of_memory(tiny_config(**changes), doing):
        raise jax.errors.JaxRuntimeError(XLA)
    assert f"memory ran out while {doing} (17179869184 bytes could not be allocated)" in str(caught.value)
    assert not [name for name in names if name not in str(caught.value)]


def test_the_out_of_memory_message_omits_settings_that_do_not_help() -> None:
    config = tiny_config(precision="bfloat16")
    with pytest.raises(OutOfMemory) as caught, explain_out_of_memory(config, memory.TRAINING):
        raise MemoryError
    assert not re.search("precision|remat|fsdp", str(caught.value))  # with one device there is nothing to shard
    streamed = tiny_config(data=tiny_config().data.replace(stream=True))
    with pytest.raises(OutOfMemory) as caught, explain_out_of_memory(streamed, memory.TRAINING):
        raise MemoryError
    assert "data set" not in str(caught.value)


def test_errors_other_than_out_of_memory_pass_unchanged() -> None:
    with (
        pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"),
        explain_out_of_memory(tiny_config(), memory.TRAINING),
    ):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")


PLACES = {
    "jaxtrain.run.fit.compile_run": memory.DATA,
    "jaxtrain.run.fit.initialize_run": memory.INITIALIZATION,
    "jaxtrain.run.loop.Loop.run": memory.TRAINING,
    "jaxtrain.run.fit.compute_final_metrics": memory.EVALUATION,
}


@pytest.mark.parametrize("place", PLACES)
def test_the_out_of_memory_message_names_the_phase_of_the_run(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise jax.errors.JaxRuntimeError(XLA)

    monkeypatch.setattr(place, full)
    if place.endswith("compute_final_metrics"):
        monkeypatch.setattr("jaxtrain.run.loop.Loop.run", lambda self, state, stop: state)
    with pytest.raises(OutOfMemory, match=PLACES[place]):
        jaxtrain.fit(tiny_config(), tmp_path / "run")


def test_the_command_line_prints_the_out_of_memory_message_and_exits_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OutOfMemory("memory ran out while training")

    monkeypatch.setattr("jaxtrain.run.fit.fit", full)
    assert main(["train", "digits_lenet5", "--workdir", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == "jaxtrain: error: memory ran out while training\n"
