"""Analysis of a trace: own times, runs and gaps, origins of operations; and a profile against known counts."""

import gzip
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from jaxtrain.analysis.device_peaks import MeasuredPeaks
from jaxtrain.analysis.profile import Profile, profile
from jaxtrain.analysis.profile_table import profile_lines
from jaxtrain.analysis.traces import Trace, _Event, operation_origins, own_times, read_trace, union_seconds
from jaxtrain.errors import ConfigError, WorkdirError
from tests.conftest import tiny_config


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return profile(tiny_config(), tmp_path_factory.mktemp("profile") / "out", steps=4)


def test_the_own_time_of_a_loop_excludes_its_body() -> None:
    events = [
        _Event("while", 0.0, 10.0, 1),
        _Event("dot", 1.0, 4.0, 1),
        _Event("add", 5.0, 9.0, 1),
        _Event("inner", 6.0, 8.0, 1),
        _Event("copy", 10.0, 11.0, 1),
    ]
    own = {event.name: seconds for event, seconds in own_times(reversed(events))}
    assert own == {"while": 3.0, "dot": 3.0, "add": 2.0, "inner": 2.0, "copy": 1.0}


def test_union_seconds_and_gaps_handle_overlapping_intervals() -> None:
    assert union_seconds([(3.0, 4.0), (0.0, 2.0), (1.0, 2.5), (3.5, 3.75)]) == 3.5
    assert Trace((), ((0.0, 1.0), (1.5, 2.0), (1.9, 3.0)), 0.0).gaps == (0.5, 0.0)


def test_operation_origins_are_read_from_the_hlo_text() -> None:
    program = """
%fused_computation.4 (param_0.4: f32[1,32,32,64], param_1.4: f32[28,28,64,6]) -> f32[1,5,5,6] {
  %param_0.4 = f32[1,32,32,64]{3,2,1,0} parameter(0)
  ROOT %convolution.4 = f32[1,5,5,6]{3,2,1,0} convolution(%param_0.4, %param_1.4), window={size=28x28}
}

%fused_computation.5 (param_0.5: f32[8]) -> f32[8] {
  %dot.1 = f32[8]{0} dot(%a, %b), metadata={op_name="jit(dispatch)/jvp(MLP)/fc1/dot_general" stack_frame_id=2}
  ROOT %add.1 = f32[8]{0} add(%dot.1, %c), metadata={op_name="jit(dispatch)/jvp(MLP)/fc1/add"}
}

ENTRY %main.9 (arg: f32[8]) -> f32[8] {
  %fusion.4 = f32[1,5,5,6]{3,2,1,0} fusion(%x, %y), kind=kCustom, calls=%fused_computation.4
  %fusion.5 = f32[8]{0} fusion(%x), kind=kLoop, calls=%fused_computation.5
  ROOT %tuple.1 = f32[8]{0} copy(%z), metadata={op_name="jit(several)/while/body/closed_call/add"}
}
"""
    told = operation_origins(program)
    assert told["fusion.4"] == "convolution to f32[1,5,5,6]"
    assert told["fusion.5"] == "jvp(MLP)/fc1/dot_general"
    assert told["tuple.1"] == "add"


def test_read_trace_finds_the_runs_and_operations_of_a_program(tmp_path: Path) -> None:
    def dispatch(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, 3, lambda _, x: jnp.tanh(x @ x), x)

    program = jax.jit(dispatch)
    x = program(jnp.ones((64, 64))).block_until_ready()
    with jax.profiler.trace(str(tmp_path)):
        for _ in range(5):
            program(x).block_until_ready()
    (file,) = tmp_path.rglob("*.xplane.pb")
    trace = read_trace(file, "jit_dispatch")
    assert len(trace.runs) == 5
    assert len(trace.gaps) == 4
    assert sum(op.seconds for op in trace.operations) >= trace.busy > 0
    assert {op.calls for op in trace.operations} >= {5, 15}  # outside the loop and inside it
    assert [op.seconds for op in trace.operations] == sorted((op.seconds for op in trace.operations), reverse=True)
    with pytest.raises(ValueError, match="no operation of jit_other"):
        read_trace(file, "jit_other")


@pytest.mark.slow
def test_profile_reports_flops_times_and_operations_of_a_run(found: Profile) -> None:
    # 16 images of 16 values through 8 hidden units to 3 classes; backward takes twice the multiplications,
    # without the gradient of the first layer's input.
    assert found.flops == 2 * 16 * (2 * 16 * 8 + 3 * 8 * 3)
    assert found.step_seconds > 0
    assert found.together_seconds is not None
    assert len(found.trace.runs) == found.steps == 4
    assert all(op.calls >= 1 for op in found.trace.operations)
    assert any("fc1" in origin for origin in found.origins.values())
    assert set(found.ceilings.flops) == {"float32", "bfloat16"}
    assert found.utilization("float32") == pytest.approx(
        found.flops / found.best_seconds / found.ceilings.flops["float32"]
    )


@pytest.mark.slow
def test_profile_writes_a_perfetto_trace(found: Profile) -> None:
    assert found.perfetto is not None
    assert json.loads(gzip.decompress(found.perfetto.read_bytes()))["traceEvents"]
    assert str(found.perfetto) in profile_lines(found)[-1]


def test_profile_lines_compare_the_step_with_the_peaks_of_the_device(found: Profile) -> None:
    import dataclasses

    gpu = dataclasses.replace(
        found, device="NVIDIA H200", platform="gpu", flops=10**12, step_seconds=0.01, together_seconds=None, bytes=2e10
    )
    gpu = dataclasses.replace(gpu, ceilings=MeasuredPeaks({"bfloat16": 8e14}, 4e12))
    text = "\n".join(profile_lines(gpu))
    assert "100.00 TFLOP/s per device" in text
    assert "MFU: 12.5 % of the 800.00 TFLOP/s of a bfloat16 matrix multiplication" in text
    assert "MFU: 10.1 % of the 989.4 TFLOP/s in its data sheet" in text
    assert "2000.0 GB/s, 50 % of the 4000.0 GB/s of a copy; data sheet: 4,800 GB/s" in text
    assert "cores busy" not in text


def test_profile_refuses_a_bad_directory_or_zero_steps(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WorkdirError, match="cannot write to"):
        profile(tiny_config(), tmp_path / "file" / "out", steps=2)
    with pytest.raises(ConfigError, match="--steps 0: it must be >= 1"):
        profile(tiny_config(), tmp_path / "out", steps=0)


@pytest.mark.slow
def test_profile_supports_streamed_data(tmp_path: Path) -> None:
    config = tiny_config()
    streamed = profile(config.replace(data=config.data.replace(stream=True, workers=0)), tmp_path / "out", steps=3)
    assert len(streamed.trace.runs) == 3
    assert streamed.together_seconds is None
