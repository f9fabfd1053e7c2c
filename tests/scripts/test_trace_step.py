"""`scripts/trace_step.py` counts the functions of jaxtrain that run while the step is traced, every time."""

from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import tiny_config

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def trace_step(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import trace_step

    return trace_step


@pytest.mark.slow
def test_trace_step_lists_the_files_of_a_step_despite_cached_traces(trace_step: ModuleType) -> None:
    trace = trace_step.prepare_step(tiny_config(), None)
    found = []
    for _ in range(2):
        trace_step.clear_caches()
        found.append(trace_step.record(trace)[0])
    assert found[0] == found[1]
    parts = {"data/loader.py", "models/perceptron.py", "nn/dropout.py", "optim/losses.py", "training/step.py"}
    assert parts <= {path.removeprefix("jaxtrain/") for path in found[0]}
    assert found[0]["jaxtrain/models/perceptron.py"] == {"MLP.__call__"}
    assert not {"jaxtrain/training/plan.py", "jaxtrain/run/compiled_run.py"} & set(found[0])
    assert not trace_step.record(trace)[0]  # a cached trace runs nothing, so the caches are cleared above


def test_trace_step_does_not_count_module_imports(trace_step: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_step, "PACKAGE", SCRIPTS.parent / "jaxtrain")
    source = "class Body:\n    value = 1\n\ndef called():\n    return Body.value\n\ncalled()"
    code = compile(source, str(SCRIPTS.parent / "jaxtrain" / "made_up.py"), "exec")
    seen, _ = trace_step.record(lambda: exec(code, {}))
    assert seen == {"jaxtrain/made_up.py": {"called"}}
    assert trace_step.describe(seen) == ["jaxtrain/made_up.py  called"]
