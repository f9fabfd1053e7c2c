"""What an editor and a type checker see of the packages whose attributes are made when they are first used."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.write_stubs import ROOT, packages, write_stub

RIGHT = """
import jaxtrain

tx = jaxtrain.optim.adamw(1e-3, weight_decay=0.1)
model = jaxtrain.models.resnet50(num_classes=3)
flip = jaxtrain.augment.flip_lr(0.5)
layer = jaxtrain.nn.Dropout(train=True, rate=0.5)
"""
WRONG = """
import jaxtrain

tx = jaxtrain.optim.adm(1e-3)
model = jaxtrain.models.resnet50(num_clases=3)
"""


@pytest.mark.parametrize("package", packages())
def test_a_stub_lists_what_the_package_offers(package: str) -> None:
    stub = ROOT / Path(*package.split(".")) / "__init__.pyi"
    assert stub.read_text(encoding="utf-8") == write_stub(package), "run scripts/write_stubs.py"


@pytest.mark.slow
@pytest.mark.parametrize(("checker", "package"), [("mypy", "mypy"), ("pyright", "pyright[nodejs]")])
def test_a_type_checker_reports_misspelled_names_and_nothing_else(checker: str, package: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"this takes {package}")

    def check(text: str) -> tuple[int, str]:
        (tmp_path / "own.py").write_text(text)
        done = subprocess.run(
            [sys.executable, "-m", checker, str(tmp_path / "own.py")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    code, output = check(RIGHT)
    assert code == 0, output
    code, output = check(WRONG)
    assert code == 1
    assert "adm" in output
    assert "num_clases" in output
