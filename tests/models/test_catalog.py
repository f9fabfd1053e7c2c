"""Every registered model against its published figures, from shapes and traces without compilation."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrain import models
from jaxtrain.analysis.cost import flops
from jaxtrain.config import ModelSpec
from jaxtrain.errors import ConfigError
from jaxtrain.models import MODELS
from jaxtrain.models.outputs import Outputs, features
from jaxtrain.optim.losses import cross_entropy
from jaxtrain.training.objective import Objective
from tests.levels import slow_except

WITHOUT_HEADS = 6_998_552
"""GoogLeNet's parameters as Caffe counts them; the registered model also has the auxiliary heads."""


def count_costs(model: Any, shape: tuple[int, int, int]) -> tuple[int, int]:
    """Return parameters and multiply-adds from one trace of the initialization, which runs the model once."""
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    traced, variables = jax.make_jaxpr(lambda x: model.init(jax.random.key(0), x, train=False), return_shape=True)(
        images
    )
    parameters = sum(math.prod(x.shape) for x in jax.tree.leaves(variables["params"]))
    return parameters, flops(traced.jaxpr) // 2


DEEP = ("densenet", "cifar_densenet", "preact_resnet")
FAMILIES = [name for name, info in MODELS.items() if not info.preset]


@pytest.mark.slow_cases("cifar_resnext", "fractalnet", "fractional_cnn", "googlenet", "vit", "wide_resnet")
@pytest.mark.parametrize("name", slow_except(MODELS.names(), *(f for f in FAMILIES if f not in DEEP)))
def test_registered_model_has_its_published_counts(name: str) -> None:
    facts = MODELS[name].reference
    model = MODELS.create(name, num_classes=facts["num_classes"])
    if name == "googlenet":  # whose multiply-adds are published without the heads, as its output is
        assert count_costs(model, facts["input"])[0] == facts["parameters"]
        model = model.clone(auxiliary=False)
        assert count_costs(model, facts["input"]) == (WITHOUT_HEADS, facts["multiply_adds"])
        return
    assert count_costs(model, facts["input"]) == (facts["parameters"], facts["multiply_adds"])


@pytest.mark.parametrize("name", slow_except(FAMILIES, "lenet5", "cifar_resnet"))
def test_model_uses_the_requested_precision(name: str) -> None:
    """Computation is in bfloat16, parameters in float16, batch statistics and logits in float32."""
    facts = MODELS[name].reference
    model = MODELS.create(name, num_classes=2, dtype="bfloat16", param_dtype="float16")
    images = jax.ShapeDtypeStruct((1, *facts["input"]), jnp.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    assert {x.dtype for x in jax.tree.leaves(variables["params"])} == {jnp.dtype("float16")}
    assert {x.dtype for x in jax.tree.leaves(variables.get("batch_stats", {}))} <= {jnp.dtype("float32")}
    traced = jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False))(variables, images)
    heavy = [e for e in traced.jaxpr.eqns if e.primitive.name in ("conv_general_dilated", "dot_general")]
    assert {v.aval.dtype for e in heavy for v in e.invars} == {jnp.dtype("bfloat16")}
    assert [v.aval.dtype for v in traced.jaxpr.outvars] == [jnp.dtype("float32")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "classes", "parameters"),
    [
        ("resnet20", 100, 275_572),
        ("resnet56", 100, 858_868),
        ("resnet110", 100, 1_733_812),
        ("cifar_resnet(depth=20, shortcut='B')", 10, 272_474),
        ("cifar_resnet(depth=110, shortcut='B')", 10, 1_730_714),
        ("preact_resnet(depth=110, shortcut='B')", 10, 1_730_522),
        ("preact_resnet164", 100, 1_726_388),
        ("wrn_16_4", 100, 2_772_020),
        ("wrn_40_4", 100, 8_972_340),
        ("wrn_28_10", 100, 36_536_884),
        ("resnext29_8x64d", 100, 34_518_948),
        ("resnext29_16x64d", 100, 68_247_460),
    ],
)
def test_model_variant_has_its_published_parameter_count(spec: str, classes: int, parameters: int) -> None:
    model = ModelSpec.parse(spec).build(num_classes=classes)
    assert count_costs(model, (32, 32, 3))[0] == parameters


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "multiply_adds"), [(50, 3_857_973_248), (101, 7_570_194_432), (152, 11_282_415_616)])
def test_resnet_with_stride_in_the_1x1_has_the_published_multiply_adds(depth: int, multiply_adds: int) -> None:
    model = models.resnet(num_classes=1000, depth=depth, stride_in="1x1")
    assert count_costs(model, (224, 224, 3))[1] == multiply_adds


@pytest.mark.slow
def test_googlenet_auxiliary_heads_are_used_only_in_training() -> None:
    model = models.googlenet(num_classes=3)
    images = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    rngs = {"dropout": jax.random.key(0)}
    trained = jax.eval_shape(lambda v, x: model.apply(v, x, train=True, rngs=rngs), variables, images)
    assert isinstance(trained, Outputs)
    assert [x.shape for x in trained.auxiliary] == [(2, 3), (2, 3)]
    tested = jax.eval_shape(lambda v, x: model.apply(v, x, train=False), variables, images)
    assert tested.shape == (2, 3)

    loss, labels = cross_entropy(), jnp.array([0, 2])
    logits = [jnp.asarray(np.random.default_rng(i).normal(size=(2, 3)), jnp.float32) for i in range(3)]
    found = Objective(model, loss).losses(Outputs(logits[0], (logits[1], logits[2]), 0.3), labels)
    each = [np.asarray(loss(x, labels)) for x in logits]
    np.testing.assert_allclose(found, each[0] + 0.3 * (each[1] + each[2]), rtol=1e-6)


@pytest.mark.slow
def test_feature_maps_have_the_published_shapes() -> None:
    def shapes(name: str, side: int, channels: int = 3) -> dict[str, tuple[int, ...]]:
        model = MODELS.create(name, num_classes=10 if channels == 1 else 1000)
        images = jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)
        variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
        found = jax.eval_shape(lambda v, x: features(model, v, x), variables, images)
        return {k: v.shape[1:] for k, v in found.items()}

    maps = [(28, 28, 6), (14, 14, 6), (10, 10, 16), (5, 5, 16)]
    simple, published = shapes("lenet5", 32, 1), shapes("lenet5_1998", 32, 1)
    assert [simple[k] for k in ("conv1", "pool1", "conv2", "pool2")] == maps
    assert [published[k] for k in ("C1", "S2", "C3", "S4")] == maps
    assert [simple[k] for k in ("fc1", "fc2", "logits")] == [(120,), (84,), (10,)]
    assert [published[k] for k in ("C5", "F6", "logits")] == [(1, 1, 120), (84,), (10,)]
    alex = shapes("alexnet", 227)
    assert alex["conv1"] == (55, 55, 96)
    assert alex["pool1"] == (27, 27, 96)
    assert alex["conv2"] == (27, 27, 256)
    assert alex["pool2"] == (13, 13, 256)
    assert [alex[f"conv{i}"] for i in (3, 4, 5)] == [(13, 13, 384), (13, 13, 384), (13, 13, 256)]
    assert alex["pool5"] == (6, 6, 256)
    zf = shapes("zfnet", 224)
    assert [zf[k][0] for k in ("conv1", "pool1", "conv2", "pool2", "conv5", "pool5")] == [110, 55, 26, 13, 13, 6]
    vgg = shapes("vgg16", 224)
    assert [vgg[f"stage{i}"] for i in range(1, 6)] == [
        (112, 112, 64),
        (56, 56, 128),
        (28, 28, 256),
        (14, 14, 512),
        (7, 7, 512),
    ]
    goog = shapes("googlenet", 224)
    assert goog["stem"] == (28, 28, 192)
    channels = [goog[f"inception_{m}"][-1] for m in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")]
    assert channels == [256, 480, 512, 512, 512, 528, 832, 832, 1024]
    assert [goog[f"inception_{m}"][0] for m in ("3b", "4e", "5b")] == [28, 14, 7]
    res = shapes("resnet50", 224)
    assert [res[f"stage{i}"] for i in range(1, 5)] == [(56, 56, 256), (28, 28, 512), (14, 14, 1024), (7, 7, 2048)]


REFUSED = {
    "cifar_resnet(depth=21)": r"depth must be 6 n \+ 2, but it is 21; choose 20 or 26",
    "cifar_resnet(depth=1)": r"6 n \+ 2, but it is 1;",
    "cifar_resnext(depth=30)": r"9 n \+ 2, but it is 30; choose 29 or 38",
    "preact_resnet(depth=111, kind='bottleneck')": r"9 n \+ 2, but it is 111;",
    "wide_resnet(depth=20)": r"6 n \+ 4, but it is 20; choose 16 or 22",
    "cifar_densenet(depth=42)": r"depth must be 6 n \+ 4, but it is 42; choose 40 or 46",
    "resnet(depth=51)": "51",
    "resnet(depth=18, groups=4)": r"basic blocks, which take no groups=4",
    "vgg(configuration='F')": "F",
    "resnet50(depth=34)": "depth",
    "resnet51": "resnet50",
    "vit(heads=5)": "width of 768 does not divide into 5 heads",
    "fractalnet(features=[8, 8])": "5 dropout_rates for 2 blocks",
    "lenet5_1998": "10 digits, not for 11 classes",
}


def test_models_refuse_options_that_do_not_fit() -> None:
    for spec, told in REFUSED.items():
        with pytest.raises((ConfigError, ValueError), match=told):
            count_costs(ModelSpec.parse(spec).build(num_classes=11), (32, 32, 3))


TOO_SMALL = {
    "alexnet": (32, "too small: at conv2|does not fit"),
    "vgg16": (31, "at least 32x32 .*these are 31x31"),
    "fractalnet": (31, "at least 32x32 .*these are 31x31"),
    "vit_b_16": (40, "multiples of the patch size 16, but they are 40x40"),
    "lenet5_1998": (28, "32x32, but these are 28x28"),
}


def test_models_refuse_images_that_are_too_small() -> None:
    for spec, (side, told) in TOO_SMALL.items():
        with pytest.raises(ValueError, match=told):
            count_costs(ModelSpec.parse(spec).build(num_classes=10), (side, side, 3))


@pytest.mark.slow
def test_resnext_takes_any_cardinality_and_width() -> None:
    count_costs(ModelSpec.parse("cifar_resnext(groups=3, group_width=5)").build(num_classes=10), (32, 32, 3))
