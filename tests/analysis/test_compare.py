"""Counts, measurements and published errors of compared models."""

import jax
import pytest

from jaxtrain.analysis import compare as module
from jaxtrain.analysis.bubble_chart import chart_points
from jaxtrain.analysis.compare import FEWEST, MOST, Candidate, compare, published_errors
from jaxtrain.config import ModelSpec
from jaxtrain.errors import JaxtrainError
from jaxtrain.models import MODELS


def candidate(call: str, shape: tuple[int, int, int], classes: int = 10) -> Candidate:
    spec = ModelSpec.parse(call)
    model = spec.build(num_classes=classes)
    return Candidate(name=call, model=model, shape=shape, num_classes=classes, published=published_errors(spec))


def test_compare_counts_without_measuring() -> None:
    rows = compare([candidate(n, MODELS[n].reference["input"]) for n in ("lenet5", "resnet20")], timed=False)
    assert [r.parameters for r in rows] == [61_706, 269_722]
    assert [r.multiply_adds for r in rows] == [416_520, 40_551_040]
    assert [r.measured for r in rows] == [None, None]


@pytest.mark.slow
def test_compare_measures_times_and_memory() -> None:
    small, large = (candidate(f"mlp(widths=[{w}], dropout_rate=0.5)", (8, 8, 1)) for w in (8, 4096))
    rows = compare([small, large], batch_size=4, seconds=0.1)
    first, second = (r.measured for r in rows)
    assert first is not None
    assert second is not None
    assert first.forward_ms > 0
    assert second.step_ms > first.step_ms
    assert second.step_bytes is not None
    # parameters and momentum; the updated ones replace them in place
    assert 2 * 4 * rows[1].parameters < second.step_bytes < 8 * 4 * rows[1].parameters


def test_compare_measures_models_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    clock = iter(range(10**6))
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock) / 1000)
    runs = [lambda name=name: calls.append(name) for name in "abc"]
    assert module.measure_in_turns(runs, 0.0) == pytest.approx([1.0, 1.0, 1.0])
    assert calls == list("abc") * (1 + FEWEST)  # one call is a warm-up
    calls.clear()
    module.measure_in_turns(runs, 0.05)
    assert len(calls) == 3 * (1 + 50 // 3)
    calls.clear()
    module.measure_in_turns(runs, 1e6)
    assert len(calls) == 3 * (1 + MOST)


def test_compare_reports_insufficient_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(module, "_Programs", fail)
    with pytest.raises(JaxtrainError, match=r"memory for linear in batches of 64; compare fewer models"):
        compare([candidate("linear", (4, 4, 1))], batch_size=64)


def test_compare_names_a_model_that_does_not_accept_the_image_shape() -> None:
    with pytest.raises(ValueError, match="lenet5 on 4x4x1: lenet5 needs images of at least 16x16"):
        compare([candidate("lenet5", (4, 4, 1))], timed=False)


def test_a_model_call_has_the_published_errors_of_its_equal_registry_entry() -> None:
    assert published_errors(ModelSpec.parse("resnet(depth=152)")) == MODELS["resnet152"].reference["published"]
    assert published_errors(ModelSpec.parse("resnet")) == MODELS["resnet50"].reference["published"]
    assert published_errors(ModelSpec.parse("cifar_resnet(depth=20)")) == MODELS["resnet20"].reference["published"]
    assert published_errors(ModelSpec.parse("resnet(depth=152, norm='group')")) == ()
    assert published_errors(ModelSpec.parse("resnet152(stride_in='1x1')")) == ()
    assert published_errors(ModelSpec.parse("lenet5")) == ()


def test_published_errors_are_complete() -> None:
    for name in (n for n in MODELS.names() if "published" in MODELS[n].reference):
        facts = MODELS[name].reference
        entries = facts["published"]
        assert entries, name
        assert all(e.keys() == {"data", "metric", "error", "protocol", "source"} for e in entries), name
        assert all(0 < e["error"] < 50 and e["protocol"] and e["source"] for e in entries), name
        tests = {"ImageNet"} if facts["num_classes"] == 1000 else {"CIFAR-10", "CIFAR-100"}
        assert {e["data"] for e in entries} <= tests, name
        assert entries[0]["metric"] == "top-1", name  # the chart shows the first entry
        errors = {(e["data"], e["metric"], e["protocol"], e["source"]): e["error"] for e in entries}
        assert len(errors) == len(entries), name
        for (data, metric, *rest), error in errors.items():
            if metric == "top-5":
                assert error < errors.get((data, "top-1", *rest), 100), name


def test_the_comparison_chart_has_a_panel_for_each_test_set() -> None:
    found = [candidate(n, MODELS[n].reference["input"]) for n in ("resnet18", "resnet20", "vit_b_16", "resnet50")]
    panels, left_out = chart_points(found)
    assert panels == {
        "ImageNet": {"resnet18": pytest.approx(69.76), "resnet50": pytest.approx(76.13)},
        "CIFAR-10": {"resnet20": pytest.approx(91.25)},
    }
    assert left_out == ["vit_b_16"]
