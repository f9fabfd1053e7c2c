"""Freed memory kept by malloc: when it is configured, when not and why, `doctor`'s report, and unchanged results."""

import ctypes
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

import jaxtrain
from jaxtrain.analysis.doctor import diagnose
from jaxtrain.errors import ConfigError
from jaxtrain.xla_cpu import keep_memory

ROOT = Path(jaxtrain.__file__).parent.parent
SETTINGS = [(-1, 2**31 - 1), (-4, 0), (-8, 1)]
GLIBC = keep_memory.has_glibc()
needs_glibc = pytest.mark.skipif(not GLIBC, reason="the C library is not glibc")

# Records the calls of mallopt, and whether jax had started a backend before each.
NOTED = """
import json, sys
from types import SimpleNamespace
import jaxtrain
if "ctypes" in sys.modules:
    raise SystemExit("import jaxtrain loads ctypes")
from jaxtrain.xla_cpu import keep_memory
real = getattr(keep_memory.ctypes.CDLL(None), "mallopt", lambda number, value: 1)
calls = []
def mallopt(number, value):
    bridge = sys.modules.get("jax._src.xla_bridge")
    calls.append([number, value, bridge is not None and bridge.backends_are_initialized()])
    return real(number, value)
keep_memory.ctypes = SimpleNamespace(CDLL=lambda name: SimpleNamespace(mallopt=mallopt))
keep_memory.has_glibc = lambda: True
"""


def last_line(code: str, switch: str = "") -> str:
    """Run `code` in a fresh interpreter and return its last output line."""
    environment = {k: v for k, v in os.environ.items() if k not in keep_memory._MALLOC_VARIABLES}
    environment |= {"PYTHONPATH": str(ROOT), keep_memory.ENVIRONMENT_VARIABLE: switch}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.fixture
def mallopt(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Record calls of mallopt without making them, as in a fresh process without a backend."""
    calls: list[tuple[int, int]] = []

    def note(number: int, value: int) -> int:
        calls.append((number, value))
        return 1

    for name in (keep_memory.ENVIRONMENT_VARIABLE, "GLIBC_TUNABLES", *keep_memory._MALLOC_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    library = SimpleNamespace(CDLL=lambda _: SimpleNamespace(mallopt=note))
    monkeypatch.setattr(keep_memory, "ctypes", library)
    monkeypatch.setattr(
        keep_memory, "_outcome", "given back: neither a command nor jaxtrain.fit has begun in this process"
    )
    monkeypatch.setattr(keep_memory, "has_backend", lambda: False)
    monkeypatch.setattr(keep_memory, "has_glibc", lambda: True)
    return calls


def doctor() -> str:
    return dict(diagnose()["devices"])["freed memory"]


def test_keep_freed_memory_configures_malloc_once_and_doctor_reports_it(mallopt: list[tuple[int, int]]) -> None:
    assert doctor() == keep_memory.NOT_STARTED
    assert keep_memory.keep_freed_memory()
    assert keep_memory.keep_freed_memory()
    assert mallopt == SETTINGS
    assert doctor() == "kept by the process"


@pytest.mark.quick_cases("off")
@pytest.mark.parametrize("value", ["off", "OFF", "0", "no", "false"])
def test_environment_switch_turns_keep_freed_memory_off(
    mallopt: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("JAXTRAIN_KEEP_MEMORY", value)
    assert not keep_memory.keep_freed_memory()
    assert mallopt == []
    assert doctor() == "given back: off (JAXTRAIN_KEEP_MEMORY)"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("MALLOC_ARENA_MAX", "4", "MALLOC_ARENA_MAX"), ("GLIBC_TUNABLES", "glibc.malloc.check=3", "GLIBC_TUNABLES")],
)
def test_malloc_settings_in_the_environment_take_precedence(
    mallopt: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    assert not keep_memory.keep_freed_memory()
    assert mallopt == []
    assert doctor() == f"given back: the environment configures malloc ({said})"


def test_unrelated_glibc_tunables_do_not_disable_keep_freed_memory(
    mallopt: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0")
    assert keep_memory.keep_freed_memory()


def test_fit_in_a_process_with_a_backend_leaves_malloc_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    jax.devices()
    monkeypatch.delenv(keep_memory.ENVIRONMENT_VARIABLE)
    monkeypatch.setattr(
        keep_memory, "_outcome", "given back: neither a command nor jaxtrain.fit has begun in this process"
    )
    monkeypatch.setattr(keep_memory, "has_glibc", lambda: True)
    monkeypatch.setattr(keep_memory, "_configure", lambda: pytest.fail("malloc is configured"))
    with pytest.raises(ConfigError):
        jaxtrain.fit("no_such_recipe")
    assert doctor() == "given back: jax had started its backend before the run began"


def test_has_backend_is_true_if_jax_internals_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax._src.xla_bridge", SimpleNamespace())
    assert keep_memory.has_backend()
    monkeypatch.delitem(sys.modules, "jax._src.xla_bridge")
    assert not keep_memory.has_backend()


@pytest.mark.parametrize("error", [ValueError("unrecognized configuration name"), OSError(22, "invalid"), None])
def test_keep_freed_memory_does_nothing_on_musl(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> None:
    def confstr(name: str) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(keep_memory, "_outcome", "")
    monkeypatch.setattr(keep_memory.sys, "platform", "linux")
    monkeypatch.setattr(keep_memory.os, "confstr", confstr)
    monkeypatch.delenv(keep_memory.ENVIRONMENT_VARIABLE)
    assert not keep_memory.keep_freed_memory()
    assert keep_memory.describe_freed_memory() == "given back: not applicable, this system has no glibc"


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_has_glibc_is_false_on_other_systems(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    monkeypatch.setattr(keep_memory.sys, "platform", platform)
    monkeypatch.delattr(keep_memory.os, "confstr")  # Windows has no confstr
    assert not keep_memory.has_glibc()


@pytest.mark.parametrize(
    ("library", "reason"),
    [
        (SimpleNamespace(), "not applicable, malloc has no mallopt"),
        (SimpleNamespace(mallopt=lambda number, value: number != -4), "mallopt refused M_MMAP_MAX=0"),
    ],
)
def test_doctor_reports_why_malloc_refused_the_settings(
    mallopt: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, library: SimpleNamespace, reason: str
) -> None:
    monkeypatch.setattr(keep_memory, "ctypes", SimpleNamespace(CDLL=lambda _: library))
    assert not keep_memory.keep_freed_memory()
    assert doctor() == f"given back: {reason}"


def test_importing_jaxtrain_leaves_malloc_alone() -> None:
    imports = "\nfor name in jaxtrain.__all__: getattr(jaxtrain, name)\nprint(json.dumps(calls))"
    assert last_line(NOTED + imports) == "[]"


@pytest.mark.slow
def test_command_configures_malloc_before_loading_jax() -> None:
    command = """
from jaxtrain.cli.main import main
loaded = "jax" in sys.modules
main(["doctor"])
print(json.dumps([loaded, "jax" in sys.modules, calls]))
"""
    assert json.loads(last_line(NOTED + command)) == [False, True, [[*setting, False] for setting in SETTINGS]]


FIT = """
import tempfile
from jaxtrain.config import Config
data = "synthetic(height=16, width=16, channels=1, num_classes=3, train_examples=64, test_examples=20)"
run = {"model": "mlp(widths=[64])", "optimizer": "sgd(0.1)", "train_for": "4 steps", "devices": 1}
with tempfile.TemporaryDirectory() as folder:
    digest = jaxtrain.fit(Config(data={"dataset": data, "batch_size": 32}, **run), folder).params_sha256
print(json.dumps([digest, keep_memory.describe_freed_memory(), calls]))
"""


@pytest.mark.slow
@needs_glibc
def test_fit_configures_malloc_before_the_backend_and_trains_the_same_parameters() -> None:
    digest, said, calls = json.loads(last_line(NOTED + FIT))
    assert said == "kept by the process"
    assert calls == [[*setting, False] for setting in SETTINGS]
    assert json.loads(last_line(NOTED + FIT, "off")) == [digest, "given back: off (JAXTRAIN_KEEP_MEMORY)", []]


RESIDENT = """
import ctypes
from jaxtrain.xla_cpu.keep_memory import keep_freed_memory
keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
address = ctypes.c_void_p(libc.malloc(2**26))
ctypes.memset(address, 1, 2**26)
libc.free(address)
pages = int(open("/proc/self/statm").read().split()[1])
print(pages * 2**12 > 2**26)
"""


@needs_glibc
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not say what is resident")
@pytest.mark.skipif(ctypes.sizeof(ctypes.c_void_p) < 8, reason="the heap is counted on 64 bits")
def test_kept_freed_memory_stays_resident() -> None:
    assert last_line(RESIDENT) == "True"
    assert last_line(RESIDENT, "off") == "False"


def test_resident_limit_trims_memory_after_large_growth(monkeypatch: pytest.MonkeyPatch) -> None:
    trims: list[int] = []
    resident = iter([1000, 1100, 1201, 1199, 2000])
    library = SimpleNamespace(CDLL=lambda _: SimpleNamespace(malloc_trim=trims.append))
    monkeypatch.setattr(keep_memory, "ctypes", library)
    monkeypatch.setattr(keep_memory, "open", lambda *_, **__: io.StringIO(f"9999 {next(resident)} 0"), raising=False)
    monkeypatch.setattr(keep_memory, "_outcome", "given back: off")
    keep_memory.ResidentLimit().check()  # no memory is kept, so the resident size is not read
    monkeypatch.setattr(keep_memory, "_outcome", "kept by the process")
    limit = keep_memory.ResidentLimit()
    given_back = []
    for _ in range(5):
        limit.check()
        given_back.append(len(trims))
    assert given_back == [0, 0, 1, 1, 2]
