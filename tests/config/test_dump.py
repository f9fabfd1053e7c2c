"""A config as JSON and back is equal, whatever its values; and the difference of two configs."""

import copy
import dataclasses
import json
import pickle
from typing import Any

import pytest
from hypothesis import HealthCheck, given

from jaxtrain.config import Config, apply_overrides, difference, digest, dumps, flatten, loads
from jaxtrain.config.dump import MISSING
from jaxtrain.errors import ConfigError
from tests.config.strategies import configs
from tests.conftest import examples, tiny_config

many = examples(30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@many
@given(configs())
def test_a_config_loaded_from_its_json_is_equal(config: Config) -> None:
    text = dumps(config)
    again = loads(text)
    assert again == config
    assert hash(again) == hash(config)
    assert dumps(again) == text
    assert digest(again) == digest(config)
    assert difference(again, config) == []


@many
@given(configs())
def test_copies_of_a_config_are_equal(config: Config) -> None:
    for again in (pickle.loads(pickle.dumps(config)), copy.deepcopy(config), config.replace()):
        assert again == config
        assert hash(again) == hash(config)


@many
@given(configs(), configs())
def test_configs_with_a_difference_have_different_digests(a: Config, b: Config) -> None:
    rows = difference(a, b)
    assert sorted(path for path, *_ in rows) == sorted(path for path, *_ in difference(b, a))
    assert all(flatten(a).get(path, MISSING) == left != right for path, left, right in rows)
    assert bool(rows) == (flatten(a) != flatten(b))
    if rows:
        assert digest(a) != digest(b)


def test_the_json_of_a_config_is_complete_and_plain() -> None:
    content = json.loads(dumps(tiny_config()))
    assert list(content) == ["version", *(f.name for f in dataclasses.fields(Config))]
    assert content["version"] == 1
    assert content["train_for"] == "12 steps"
    assert content["data"]["normalize"] == {"name": "mean_std"}
    assert content["data"]["augment"] == [{"name": "flip_lr", "probability": 0.5}]
    assert content["optimizer"]["learning_rate"]["warmup"] == "0 steps"  # defaults are stored
    assert dumps(tiny_config()).endswith("}\n")


def test_the_digest_ignores_the_data_directory() -> None:
    here, there = (apply_overrides(tiny_config(), [f"data.directory={where}"]) for where in ("/here", "/there"))
    assert here != there
    assert digest(here) == digest(there)
    assert difference(here, there) == []
    assert loads(dumps(here)).data.directory == "/here"  # it is stored nevertheless


@pytest.mark.parametrize(
    "override", ["seed=1", "devices=2", "model.widths=[9]", "optimizer.learning_rate.peak=0.2", "data.augment="]
)
def test_the_digest_depends_on_every_other_setting(override: str) -> None:
    changed = apply_overrides(tiny_config(), [override])
    assert digest(changed) != digest(tiny_config())
    assert [path for path, *_ in difference(tiny_config(), changed)] == [override.partition("=")[0]]


def test_difference_includes_settings_that_only_one_config_has() -> None:
    rows = difference(tiny_config(), apply_overrides(tiny_config(), ["model=linear"]))
    assert rows == [
        ("model.name", "mlp", "linear"),
        ("model.widths", [8], MISSING),
        ("model.dropout_rate", 0.25, MISSING),
        ("model.dropout_kind", "inverted", MISSING),
        ("model.dropconnect_rate", 0.0, MISSING),
        ("model.dropconnect_test", "mean", MISSING),
        ("model.activation", "relu", MISSING),
        ("model.kernel_init", "he", MISSING),
    ]


def test_configs_are_immutable() -> None:
    config: Any = tiny_config()
    for section, field in ((config, "seed"), (config.data, "batch_size"), (config.checkpoint, "keep")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(section, field, 3)
    assert isinstance(tiny_config(parameters={"frozen": [["fc1", 1], [".*", 0]]}).parameters.frozen[0], tuple)


def test_missing_settings_in_json_take_their_defaults() -> None:
    content = json.loads(dumps(tiny_config()))
    for key in ("seed", "loss", "checkpoint", "parameters"):
        del content[key]
    del content["optimizer"]["nesterov"]
    assert loads(json.dumps(content)) == tiny_config()


def test_errors_in_json_name_the_file() -> None:
    with pytest.raises(ConfigError, match=r"run/config\.json is not JSON"):
        loads("{", "run/config.json")
    with pytest.raises(ConfigError, match=r"run/config\.json holds a JSON list, not a config"):
        loads("[]", "run/config.json")


def test_loads_refuses_another_version() -> None:
    content = json.loads(dumps(tiny_config()))
    for version, shown in ((2, "2"), (0, "0"), ("1", '"1"'), (None, "null")):
        text = json.dumps(content | {"version": version})
        with pytest.raises(ConfigError, match=rf"^run/config\.json has version {shown}, .* reads version 1; .*newer"):
            loads(text, "run/config.json")
    del content["version"]
    with pytest.raises(ConfigError, match=r"^run/config\.json has no version: .* train again"):
        loads(json.dumps(content), "run/config.json")
