"""`jaxtrain list`: patterns, options and settings."""

import json

import pytest

from jaxtrain.cli.main import main
from jaxtrain.registry import REGISTRY_PATHS, get_registry


def list_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, object]]:
    assert main(["list", *arguments, "--json"]) == 0
    rows: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return rows


def test_a_pattern_selects_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "optimizers", "adam*"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["adam", "adam_uncorrected", "adamw"]
    assert main(["list", "models", "ress*"]) == 2
    assert "no name matches 'ress*'" in capsys.readouterr().err


def test_verbose_prints_each_option_with_type_default_and_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "optimizers", "nesterov", "-v"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "    learning_rate: number >= 0 or a schedule (required)" in lines
    at = lines.index("    momentum: number >= 0 and < 1 or a schedule (default 0.9)")
    assert lines[at + 1].startswith("        ")


def test_json_has_the_options_of_each_entry(capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = list_json(capsys, "schedules", "multistep")
    options = {option["name"]: option for option in row["options"]}  # type: ignore[attr-defined]
    assert options["peak"]["default"] is None
    assert options["warmup"]["type"] == 'duration, such as "5 epochs"'


def test_settings_are_those_of_a_config(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["name"]: row for row in list_json(capsys, "settings")}
    assert rows["data.batch_size"]["default"] is None
    assert rows["data.batch_size"]["type"] == 'integer >= 1 or "all"'
    assert {"train_for", "optimizer", "evaluation.tta", "data.decode_eval", "parallel.fsdp"} <= rows.keys()
    assert [name for name, row in rows.items() if not row["meaning"]] == []


@pytest.mark.parametrize("kind", REGISTRY_PATHS)
def test_every_option_has_a_meaning(kind: str) -> None:
    from jaxtrain.config.describe import describe_options

    missing = {f"{name}.{o.name}" for name in get_registry(kind) for o in describe_options(kind, name) if not o.meaning}
    assert missing == set()


def test_configs_say_where_their_results_come_from(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["name"]: row["result"] for row in list_json(capsys, "configs")}
    assert set(rows.values()) == {"measured", "measured in part", "published only"}
    assert rows["digits_lenet5"] == rows["fashion_comparison:adam"] == "measured"
    assert rows["cifar10_resnet20"] == "published only"
