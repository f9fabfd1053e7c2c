"""`jaxtrain check`: its report is correct; it is fast and compiles nothing, even for ResNet-50."""

import time
from collections.abc import Iterator

import jax
import pytest

from jaxtrain.analysis.check import make_report
from jaxtrain.cli.main import main
from jaxtrain.config import Config, DataConfig, OptimizerSpec, ParallelConfig, ParametersConfig
from jaxtrain.training.plan import make_plan
from tests.conftest import tiny_config


@pytest.fixture
def compiles() -> Iterator[list[str]]:
    """Yield the list of compile events that jax reports while a test runs."""
    seen: list[str] = []

    def listen(event: str, duration: float, **_: object) -> None:
        if "compile" in event and "cache" not in event:
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.clear_event_listeners()


@pytest.mark.slow
def test_check_of_resnet50_takes_seconds_and_compiles_nothing(compiles: list[str]) -> None:
    data = "synthetic(height=224, width=224, channels=3, num_classes=1000, train_examples=256, test_examples=8)"
    config = Config(
        model="resnet50",
        data=DataConfig(dataset=data, batch_size=32),
        optimizer="sgd(0.1, momentum=0.9)",
        train_for="90 epochs",
        devices=1,
    )
    jax.jit(lambda x: x + 1)(1)
    assert compiles, "the listener must receive compile events"
    compiles.clear()
    began = time.process_time()  # process time, because the machine may be busy
    with jax.debug_key_reuse(False):  # only the test suite turns it on, and it is slow
        report = make_report(make_plan(config))
    seconds = time.process_time() - began
    assert sum(p.count for p in report.parameters) == 25_557_032
    # 4,089,184,256 multiply-adds forward; twice that backward, without the first layer's input gradient
    assert report.flops == pytest.approx(3 * 2 * 32 * 4_089_184_256, rel=0.05)
    assert not [c for c in compiles if "backend_compile" in c]
    assert seconds < 12  # 2.3 s on an idle machine, up to 5.7 s on a shared one


def test_check_prints_every_parameter_with_its_rules(capsys: pytest.CaptureFixture[str]) -> None:
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
    assert "FLOPs of a step: 174,382,080" in output


def test_check_counts_the_bytes_of_state_and_data_by_kind() -> None:
    plan = make_plan(tiny_config(optimizer="adam(0.1)", average="ema"))
    report = make_report(plan)
    count = 16 * 8 + 8 + 8 * 3 + 3
    size = 16 + 4  # uint8[4, 4, 1] and an int32
    assert {(item.name, item.total, item.per_device) for item in (*report.state, *report.data)} == {
        ("parameters", 4 * count, 4 * count),
        # two moments, the step, Adam's count; steps, samples and weight of the average
        ("optimizer state, counters", 2 * 4 * count + 5 * 4, 2 * 4 * count + 5 * 4),
        ("averages of the parameters", 4 * count, 4 * count),
        ("train split", 80 * size, 80 * size),
        ("validation split", 16 * size, 16 * size),
        ("test split", 20 * size, 20 * size),
        ("order of the examples", 2 * 4 * 80 + 2 * 4, 2 * 4 * 80 + 2 * 4),
    }


def test_check_reports_sharded_state_and_streamed_batches_per_device() -> None:
    parallel = ParallelConfig(fsdp=True, fsdp_min_size=100)
    config = tiny_config(devices=4, parallel=parallel, data=tiny_config().data.replace(stream=True))
    report = make_report(make_plan(config))
    kernel, others = 16 * 8, 8 + 8 * 3 + 3
    assert [(i.total, i.per_device) for i in report.state[:1]] == [(4 * (kernel + others), kernel + 4 * others)]
    assert [(i.total, i.per_device) for i in report.data] == [(3 * 16 * 20, 3 * 4 * 20)]
    total, per_device = (sum(getattr(item, each) for item in report.state) for each in ("total", "per_device"))
    assert ("state", total, per_device) in report.memory_rows()


def test_check_reports_weight_decay_and_learning_rate_by_parameter() -> None:
    config = tiny_config(
        optimizer=OptimizerSpec("sgd", learning_rate=0.1, weight_decay=[("kernel", 0.5), (".*", 0)]),
        parameters=ParametersConfig(learning_rate=[("fc1", 0.1), (".*", 1)]),
    )
    found = {p.path: (p.decay, p.learning_rate) for p in make_report(make_plan(config)).parameters}
    assert found == {"fc1/bias": (0, 0.1), "fc1/kernel": (0.5, 0.1), "logits/bias": (0, 1), "logits/kernel": (0.5, 1)}
