"""`jaxtrain check`: what it says is right, and it stays fast and compiles nothing at the size of ResNet-50."""

import time
from collections.abc import Iterator

import jax
import pytest

from jaxtrain.analysis.check import examine
from jaxtrain.cli.main import main
from jaxtrain.config import Config, DataConfig, OptimizerSpec, ParallelConfig, ParametersConfig
from jaxtrain.training.plan import make_plan
from jaxtrain.xla_cpu.convolutions import native
from tests.compiled import compiled_step
from tests.conftest import tiny_config
from tests.levels import slow_except


@pytest.fixture
def compiles() -> Iterator[list[str]]:
    """The names of compiles, as jax reports them, while a test runs."""
    seen: list[str] = []

    def listen(event: str, duration: float, **_: object) -> None:
        if "compile" in event and "cache" not in event:
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.clear_event_listeners()


def test_the_size_of_resnet50_takes_seconds_and_no_compile(compiles: list[str]) -> None:
    data = "synthetic(height=224, width=224, channels=3, num_classes=1000, train_examples=256, test_examples=8)"
    config = Config(
        model="resnet50",
        data=DataConfig(dataset=data, batch_size=32),
        optimizer="sgd(0.1, momentum=0.9)",
        train_for="90 epochs",
        devices=1,
    )
    jax.jit(lambda x: x + 1)(1)
    assert compiles, "the listener is to hear of compiles"
    compiles.clear()
    began = time.process_time()  # the machine may be busy with something else
    with jax.debug_key_reuse(False):  # which only the suite turns on, and which is slow
        report = examine(make_plan(config))
    seconds = time.process_time() - began
    assert sum(p.count for p in report.parameters) == 25_557_032
    # 4,089,184,256 multiply-adds forward; backward costs twice that, but for the first layer's input gradient
    assert report.flops == pytest.approx(3 * 2 * 32 * 4_089_184_256, rel=0.05)
    assert not [c for c in compiles if "backend_compile" in c]
    assert seconds < 12  # 2.3 s on a quiet machine; one that is shared was seen to take 5.7


def test_the_command_prints_every_parameter_with_its_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "digits_lenet5", "parameters.frozen=[('conv1', 1), ('.*', 0)]", "devices=1"]) == 0
    output = capsys.readouterr().out
    row = {
        line.split("│")[1].strip(): [c.strip() for c in line.split("│")[2:-1]]
        for line in output.splitlines()
        if line.count("│") == 8
    }
    assert row["conv1/kernel"] == ["5x5x1x6", "float32", "150", "-", "-", "frozen"]
    assert row["fc1/kernel"] == ["400x120", "float32", "48,000", "0.0005", "1", ""]
    assert row["fc1/bias"] == ["120", "float32", "120", "-", "1", ""]
    assert row["total"][2] == "61,706"
    assert '"momentum": 0.9' in output
    assert "FLOPs a step: 174,382,080" in output


def test_state_bytes_are_those_of_the_state() -> None:
    plan = make_plan(tiny_config(optimizer="adam(0.1)"))
    report = examine(plan)
    count = 16 * 8 + 8 + 8 * 3 + 3
    # parameters and two moments in float32, the step and Adam's count in int32 (and the schedule's, which is constant)
    assert report.state_bytes == 3 * 4 * count + 2 * 4
    assert report.gradient_bytes == 4 * count
    assert report.data_bytes == (96 + 20) * (16 + 4)


def test_rules_reach_the_report() -> None:
    config = tiny_config(
        optimizer=OptimizerSpec("sgd", learning_rate=0.1, weight_decay=[("kernel", 0.5), (".*", 0)]),
        parameters=ParametersConfig(learning_rate=[("fc1", 0.1), (".*", 1)]),
    )
    found = {p.path: (p.decay, p.learning_rate) for p in examine(make_plan(config)).parameters}
    assert found == {
        "fc1/bias": (0, 0.1),
        "fc1/kernel": (0.5, 0.1),
        "logits/bias": (0, 1),
        "logits/kernel": (0.5, 1),
    }


MODELS = {
    "mlp": "mlp(widths=[96, 96, 96, 96])",
    "lenet5": "lenet5",
    "vit": "vit(patch=4, width=96, depth=2, heads=3, mlp_width=384)",
}


@pytest.mark.parametrize("kernels", slow_except(["native", "XLA's"], "native"))
@pytest.mark.parametrize("model", slow_except(MODELS, "mlp", "lenet5"))
def test_the_estimate_is_near_what_xla_allocates_for_the_run(
    model: str, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Besides arguments and results: activations, gradients and copies of the program that the loop calls."""
    if kernels == "native":
        if native.library() is None:
            pytest.skip("there is no C++ compiler")
    else:
        monkeypatch.setattr(native, "library", lambda: None)
        monkeypatch.setattr(native, "is_wanted", lambda: False)
    data = DataConfig(
        dataset="synthetic(like='mnist', train_examples=256, test_examples=8)", batch_size=128, normalize="scale"
    )
    plan = make_plan(tiny_config(model=MODELS[model], data=data, optimizer="adamw(0.001)"))
    allocated = compiled_step(plan).memory_analysis().temp_size_in_bytes
    assert examine(plan).temporary_bytes == pytest.approx(allocated, rel=0.15)


@pytest.mark.parametrize("fsdp", slow_except([False, True], True))
def test_the_estimate_for_one_of_several_devices(fsdp: bool) -> None:
    """Each has the gradient of its share, and that of all or, where they are divided, the parameters of all."""
    parallel = ParallelConfig(fsdp=fsdp, fsdp_min_size=1000)
    data = DataConfig(dataset="synthetic(like='mnist', train_examples=256, test_examples=8)", batch_size=128)
    plan = make_plan(tiny_config(model="mlp(widths=[96, 96])", data=data, devices=8, parallel=parallel))
    allocated = compiled_step(plan).memory_analysis().temp_size_in_bytes
    assert examine(plan).temporary_bytes == pytest.approx(allocated, rel=0.15)
