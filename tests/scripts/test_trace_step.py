"""What `scripts/trace_step.py` counts: our functions that run in the trace of the step, also a second time."""

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
def test_the_files_of_a_step_are_those_of_its_parts_though_traces_are_kept(trace_step: ModuleType) -> None:
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
    assert not trace_step.record(trace)[0]  # a trace that is kept runs nothing, hence the caches are emptied


def test_importing_a_module_does_not_count(trace_step: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_step, "PACKAGE", SCRIPTS.parent / "jaxtrain")
    source = "class Body:\n    value = 1\n\ndef called():\n    return Body.value\n\ncalled()"
    code = compile(source, str(SCRIPTS.parent / "jaxtrain" / "made_up.py"), "exec")
    seen, _ = trace_step.record(lambda: exec(code, {}))
    assert seen == {"jaxtrain/made_up.py": {"called"}}
    assert trace_step.describe(seen) == ["jaxtrain/made_up.py  called"]
