"""Search and load configs; and every shipped recipe, resolved, against its golden copy."""

import sys
from pathlib import Path

import pytest

from jaxtrain.config import Config, config_name, dumps, find_config, list_recipes, load_config, loads
from jaxtrain.errors import ConfigError
from tests.conftest import tiny_config
from tests.golden import CONFIGS, golden, render, renew

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


@pytest.mark.parametrize("name", list_recipes())
def test_shipped_recipes_equal_their_golden_copies(name: str) -> None:
    assert golden(name).is_file(), f"{name} has no golden copy; {RENEW}"
    assert render(name) == golden(name).read_text(encoding="utf-8"), RENEW
    assert loads(dumps(load_config(name))) == load_config(name)


def test_every_golden_copy_belongs_to_a_recipe() -> None:
    assert set(CONFIGS.iterdir()) == set(map(golden, list_recipes())), RENEW


def test_renew_updates_adds_and_removes_golden_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.golden.CONFIGS", tmp_path)
    names = sorted(golden(name).stem for name in list_recipes())
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


def test_load_config_reads_a_python_file(recipe: Path) -> None:
    config = load_config(recipe)
    assert isinstance(config, Config)
    assert config.model.options["widths"] == (8,)
    assert load_config(str(recipe), ["seed=3"]) == config.replace(seed=3)


def test_load_config_reads_a_json_file_and_its_directory(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(dumps(tiny_config()))
    assert load_config(tmp_path) == load_config(tmp_path / "config.json") == tiny_config()


def test_load_config_accepts_a_config_object() -> None:
    assert load_config(tiny_config()) == tiny_config()
    assert load_config(tiny_config(), ["seed=3"]) == tiny_config(seed=3)


def test_find_config_recognizes_a_file_by_its_suffix(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(recipe.parent)
    name = next(iter(list_recipes()))
    Path(f"{name}.py").write_text(RECIPE)
    assert find_config(name) == (list_recipes()[name], None)
    assert find_config(f"{name}.py") == (Path(f"{name}.py"), None)


def test_config_name_gives_names_for_run_directories(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(dumps(tiny_config()))
    assert config_name(recipe) == "recipe"
    assert config_name(tmp_path) == tmp_path.name
    assert config_name(next(iter(list_recipes()))) == next(iter(list_recipes()))
    assert config_name(tiny_config()) == "run"
    assert config_name("fashion_comparison:adam") == "fashion_comparison-adam"
    assert config_name(f"{recipe}:a/b c") == "recipe-a-b-c"


def test_get_config_receives_the_text_after_the_colon(recipe: Path) -> None:
    plain = load_config(recipe)
    recipe.write_text(
        RECIPE.replace("get_config()", "get_config(seed='0')").replace("model=", "seed=int(seed), model=")
    )
    assert load_config(recipe) == plain
    assert load_config(f"{recipe}:7", ["devices=2"]) == plain.replace(seed=7, devices=2)
    with pytest.raises(ConfigError, match=r"recipe\.py, line 5: ValueError"):
        load_config(f"{recipe}:seven")


def test_load_config_refuses_variants_that_are_not_declared(recipe: Path) -> None:
    text = RECIPE.replace("get_config()", "get_config(model)").replace('"mlp(widths=[8])"', "VARIANTS[model]")
    recipe.write_text(text + 'VARIANTS = {"linear": "linear", "small": "mlp(widths=[8])"}\n')
    assert load_config(f"{recipe}:linear").model.name == "linear"
    with pytest.raises(ConfigError, match=r"has no variant 'linaer'; did you mean 'linear'\? Known: linear, small"):
        load_config(f"{recipe}:linaer")
    with pytest.raises(ConfigError, match=r"needs an argument: write recipe\.py:ARGUMENT\. Known: linear, small"):
        load_config(recipe)


def test_load_config_reads_a_file_with_a_colon_in_its_name(recipe: Path) -> None:
    renamed = recipe.rename(recipe.with_name("my:recipe.py"))
    assert load_config(renamed).model.options["widths"] == (8,)
    with pytest.raises(ConfigError, match=r"my:recipe\.py takes no argument; remove ':small'"):
        load_config(f"{renamed}:small")


def test_a_config_error_names_the_line_of_the_file(recipe: Path) -> None:
    recipe.write_text(RECIPE.replace("sgd(0.1)", "sgd(0.1, momentum=2)"))
    with pytest.raises(ConfigError) as caught:
        load_config(recipe)
    assert caught.value.path == "optimizer.momentum"
    assert caught.value.message.endswith(f"({recipe}, line 4)")


def test_load_config_leaves_the_process_unchanged(recipe: Path) -> None:
    before = [*sys.path], Path.cwd(), {name for name in sys.modules if "recipe" in name}
    load_config(recipe)
    assert ([*sys.path], Path.cwd(), {name for name in sys.modules if "recipe" in name}) == before
