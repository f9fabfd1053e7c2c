"""Finding and loading configs; and every shipped recipe, resolved, against its golden copy."""

import sys
from pathlib import Path

import pytest

from jaxtrain.config import Config, config_name, dumps, find_config, load_config, loads, shipped
from jaxtrain.errors import ConfigError
from tests.conftest import tiny_config
from tests.golden import CONFIGS, golden, renew

RENEW = "if the change is meant, run `python -m tests.golden` and look at what `git diff` shows"
RECIPE = """\
from jaxtrain.config import Config, DataConfig

def get_config():
    return Config(
        model="mlp(widths=[8])",
        data=DataConfig(dataset="digits", batch_size=16),
        optimizer="sgd(0.1)",
        train_for="1 epoch",
    )
"""


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_are_what_they_were(name: str) -> None:
    assert golden(name).is_file(), f"{name} has no golden copy; {RENEW}"
    text = golden(name).read_text(encoding="utf-8")
    assert dumps(load_config(name)) == text, RENEW
    assert loads(text) == load_config(name)


def test_every_golden_copy_is_of_a_recipe() -> None:
    assert {path.stem for path in CONFIGS.iterdir()} == set(shipped()), RENEW


def test_golden_copies_are_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.golden.CONFIGS", tmp_path)
    names = sorted(shipped())
    (tmp_path / "gone.json").touch()
    (tmp_path / f"{names[0]}.json").write_text("{}")
    assert sorted(path.stem for path in renew()) == sorted(["gone", *names])
    assert sorted(path.stem for path in tmp_path.iterdir()) == names
    assert renew() == []


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.py"
    path.write_text(RECIPE)
    return path


def test_a_file_of_ones_own(recipe: Path) -> None:
    config = load_config(recipe)
    assert isinstance(config, Config)
    assert config.model.options["widths"] == (8,)
    assert load_config(str(recipe), ["seed=3"]) == config.replace(seed=3)


def test_a_dumped_config_and_its_directory(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(dumps(tiny_config()))
    assert load_config(tmp_path) == load_config(tmp_path / "config.json") == tiny_config()


def test_a_config_made_in_python() -> None:
    assert load_config(tiny_config()) == tiny_config()
    assert load_config(tiny_config(), ["seed=3"]) == tiny_config(seed=3)


def test_a_suffix_tells_a_file_from_a_recipe(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(recipe.parent)
    name = next(iter(shipped()))
    Path(f"{name}.py").write_text(RECIPE)
    assert find_config(name) == shipped()[name]
    assert find_config(f"{name}.py") == Path(f"{name}.py")


def test_names_for_run_directories(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(dumps(tiny_config()))
    assert config_name(recipe) == "recipe"
    assert config_name(tmp_path) == tmp_path.name
    assert config_name(next(iter(shipped()))) == next(iter(shipped()))
    assert config_name(tiny_config()) == "run"


def test_the_error_names_the_line_of_the_file(recipe: Path) -> None:
    recipe.write_text(RECIPE.replace("sgd(0.1)", "sgd(0.1, momentum=2)"))
    with pytest.raises(ConfigError) as caught:
        load_config(recipe)
    assert caught.value.path == "optimizer.momentum"
    assert caught.value.message.endswith(f"({recipe}, line 4)")


def test_loading_leaves_the_process_as_it_was(recipe: Path) -> None:
    before = [*sys.path], Path.cwd(), {name for name in sys.modules if "recipe" in name}
    load_config(recipe)
    assert ([*sys.path], Path.cwd(), {name for name in sys.modules if "recipe" in name}) == before
