"""Specs of components: text, JSON and Python agree, defaults are recorded, and specs are immutable."""

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtrain.config import (
    AugmentationSpec,
    Duration,
    LossSpec,
    ModelSpec,
    OptimizerSpec,
    RunLength,
    ScheduleSpec,
    Spec,
)
from jaxtrain.config.dump import to_json
from jaxtrain.config.spec import SPECS
from jaxtrain.errors import ConfigError
from tests.config.strategies import specs
from tests.conftest import examples

fewer = examples(40)
ANY = st.sampled_from(list(SPECS.values())).flatmap(specs)


@fewer
@given(ANY)
def test_a_spec_parsed_from_its_text_is_equal(spec: Spec) -> None:
    again = type(spec).parse(str(spec))
    assert again == spec
    assert hash(again) == hash(spec)
    assert str(again) == str(spec)
    assert repr(spec) == f"{type(spec).__name__}.parse({str(spec)!r})"


@fewer
@given(ANY)
def test_a_spec_parsed_from_its_json_is_equal(spec: Spec) -> None:
    assert type(spec).parse(to_json(spec)) == spec


@fewer
@given(ANY)
def test_copies_of_a_spec_are_equal(spec: Spec) -> None:
    for again in (pickle.loads(pickle.dumps(spec)), copy.copy(spec), copy.deepcopy(spec), spec.replace()):
        assert again == spec
        assert type(again) is type(spec)
        assert hash(again) == hash(spec)


@fewer
@given(ANY)
def test_specs_are_immutable(spec: Spec) -> None:
    with pytest.raises(AttributeError, match="immutable"):
        spec.name = "mlp"
    options: Any = spec.options
    with pytest.raises(TypeError):
        options["widths"] = (3,)
    assert not any(isinstance(value, list | dict) for value in spec.options.values())


def test_a_spec_is_the_same_from_text_dict_and_python() -> None:
    wanted = ModelSpec("mlp", widths=[3, 4], activation="tanh")
    assert ModelSpec.parse("mlp(widths=[3, 4], activation=tanh)") == wanted
    assert ModelSpec.parse("  mlp( widths = (3, 4), activation='tanh' ) ") == wanted
    assert ModelSpec.parse({"name": "mlp", "widths": [3, 4], "activation": "tanh"}) == wanted
    assert ModelSpec.parse(wanted) is wanted
    assert wanted.options["widths"] == (3, 4)


def test_positional_options_of_a_spec_follow_the_factory_signature() -> None:
    assert AugmentationSpec.parse("pad_crop(2, reflect)") == AugmentationSpec("pad_crop", padding=2, mode="reflect")
    assert AugmentationSpec("pad_crop", 2, "reflect") == AugmentationSpec("pad_crop", padding=2, mode="reflect")


def test_a_spec_records_default_options() -> None:
    assert dict(OptimizerSpec("sgd", 0.1).options) == {
        "learning_rate": 0.1,
        "momentum": 0.0,
        "nesterov": False,
        "weight_decay": 0.0,
    }
    assert ScheduleSpec("cosine", 0.1).options["warmup"] == Duration(0.0, "steps")
    assert "num_classes" not in ModelSpec("mlp").options  # the run supplies it


def test_a_spec_parses_words_without_quotes() -> None:
    spec = OptimizerSpec.parse("sgd(0.1, nesterov=true, momentum=0.9)")
    assert spec.options["nesterov"] is True
    assert SPECS["dataset"].parse("synthetic(height=none, like=null)").options["like"] is None
    assert ModelSpec.parse("resnet18(norm=none, shortcut='none')").options["norm"] == "none"  # a name, not a null


def test_specs_can_be_nested() -> None:
    inner = ScheduleSpec("cosine", 0.1, warmup="2 epochs")
    for text in ("sgd(cosine(0.1, warmup='2 epochs'))", "sgd(learning_rate='cosine(0.1, warmup=\"2 epochs\")')"):
        assert OptimizerSpec.parse(text).options["learning_rate"] == inner


def test_a_float_option_accepts_integers_but_not_booleans() -> None:
    rate = OptimizerSpec("sgd", 1).options["learning_rate"]
    assert (rate, type(rate)) == (1.0, float)
    with pytest.raises(ConfigError, match="True"):
        OptimizerSpec("sgd", True)


def test_specs_of_different_kinds_or_options_differ() -> None:
    assert ModelSpec("mlp") != ModelSpec("linear")
    assert ModelSpec("mlp") != ModelSpec("mlp", widths=[8])
    assert LossSpec("cross_entropy") != "cross_entropy(label_smoothing=0.0)"
    assert ModelSpec("mlp").replace(widths=[8]) == ModelSpec("mlp", widths=[8])


def test_build_supplies_the_values_of_the_run() -> None:
    clock = RunLength(examples=100, batch_size=10, total_steps=50)
    optimizer = OptimizerSpec.parse("sgd(cosine(1.0, warmup='1 epoch'))")
    schedule = optimizer.options["learning_rate"].build(clock=clock, total=50)
    assert float(schedule(5)) == 0.5  # half of a warm-up of one epoch (10 steps)
    assert float(schedule(10)) == 1.0
    assert float(schedule(50)) == 0.0
    assert ModelSpec("mlp", widths=[3]).build(num_classes=7).num_classes == 7
    assert ModelSpec("mlp", num_classes=5).build(num_classes=7).num_classes == 5  # the config takes precedence


def test_build_needs_the_run_length_for_durations() -> None:
    with pytest.raises(ConfigError, match=r"schedule\.warmup: '1 epochs' needs a training run"):
        ScheduleSpec("constant", 0.1, warmup="1 epoch").build()


def test_an_error_of_a_factory_becomes_a_config_error() -> None:
    with pytest.raises(ConfigError, match="optimizer sgd: nesterov=True needs a momentum"):
        OptimizerSpec("sgd", 0.1, nesterov=True).build()
