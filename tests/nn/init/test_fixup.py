"""Fixup: zeros and scales at initialization, and training of a net without normalization."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxtrain import models
from jaxtrain.models.fixup_block import FixupBlock
from jaxtrain.models.residual import BlockSpec, ResidualOptions
from jaxtrain.nn import fixup
from jaxtrain.nn.init.fixup import fixup_scale
from jaxtrain.nn.layers import LayerBuilder
from tests.conftest import OPTIMIZE
from tests.nn.nets import IMAGES, key, outputs, shapes

RGB = IMAGES[..., :3]


def deviation(params: Any, *path: str) -> float:
    for name in path:
        params = params[name]
    return float(np.asarray(params["kernel"]).std())


def test_fixup_scales_kernels_as_in_the_paper() -> None:
    """Three branches of two layers: 3^(-1/2)."""
    assert fixup_scale(16, 3) == pytest.approx(0.5)
    assert fixup_scale(16, 1) == 1
    model = models.wide_resnet(num_classes=5, depth=10, width=2, norm="none")
    variables = fixup(model, key(0), jnp.asarray(RGB))
    assert shapes(variables) == shapes(jax.eval_shape(lambda: model.init(key(0), jnp.asarray(RGB), train=False)))
    params = variables["params"]
    inputs = {"stage1_block1": 16, "stage2_block1": 32, "stage3_block1": 64}
    for block, channels in inputs.items():
        he = np.sqrt(2 / (9 * channels))
        assert deviation(params, block, "conv1") == pytest.approx(3**-0.5 * he, rel=0.05)
        assert deviation(params, block, "conv2") == 0
        assert deviation(params, block, "shortcut") == pytest.approx(np.sqrt(2 / channels), rel=0.1)
    assert deviation(params, "logits") == 0
    assert all(not np.any(x) for k, x in jax.tree_util.tree_leaves_with_path(params) if "bias" in str(k))


@pytest.mark.slow
def test_fixup_blocks_equal_their_shortcuts_at_initialization() -> None:
    model = models.cifar_resnet(num_classes=5, depth=8, norm="none", activation="relu")
    given = outputs(model, fixup(model, key(0), RGB), RGB)
    stem = np.maximum(given["conv1"], 0)
    np.testing.assert_allclose(given["stage1_block1"], stem, rtol=1e-6)
    smaller = np.pad(stem[:, ::2, ::2], ((0, 0),) * 3 + ((0, 16),))
    np.testing.assert_allclose(given["stage2_block1"], smaller, rtol=1e-6)
    assert not given["logits"].any()


def block(kind: Any, stride: int, features: int = 4) -> FixupBlock:
    place = BlockSpec(features=features, width=features, stride=stride, blocks=4)
    return FixupBlock(LayerBuilder(norm="none", bias=True), ResidualOptions(kind=kind), place)


@pytest.mark.quick_cases("basic-2")
@pytest.mark.parametrize(("kind", "layers"), [("basic", 2), ("bottleneck", 3)])
def test_fixup_block_has_the_scalars_of_the_paper(kind: Any, layers: int) -> None:
    module = block(kind, 2)
    params = module.init(key(0), IMAGES)["params"]
    scalars = [f"bias{i}{side}" for i in range(1, layers + 1) for side in "ab"]
    assert set(params) == {"multiplier", "shortcut", *scalars, *(f"conv{i}" for i in range(1, layers + 1))}
    assert {name: float(params[name]) for name in scalars} == dict.fromkeys(scalars, 0.0)
    assert (float(params["multiplier"]), params["multiplier"].shape) == (1, ())
    assert set(params["shortcut"]) == set(params["conv1"]) == {"kernel"}
    assert deviation(params, f"conv{layers}") == 0
    wide = block(kind, 2, features=256)
    kernels = jax.jit(wide.init)(key(0), IMAGES)["params"]
    fan = 9 * 4 if kind == "basic" else 4
    assert deviation(kernels, "conv1") == pytest.approx(4 ** (-1 / (2 * layers - 2)) * np.sqrt(2 / fan), rel=0.05)


def test_fixup_block_computes_the_formula_of_the_paper() -> None:
    """All parameters are random; the shortcut is a projection of the shifted input."""
    module = block("basic", 2)
    rng = np.random.default_rng(0)
    abstract = jax.eval_shape(lambda: module.init(key(0), jnp.asarray(IMAGES)))
    variables = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), abstract)
    p = variables["params"]

    def conv(x: Any, name: str, stride: int, pad: int) -> Any:
        return jax.lax.conv_general_dilated(
            x, p[name]["kernel"], (stride,) * 2, [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    shifted = IMAGES + p["bias1a"]
    y = jnp.maximum(conv(shifted, "conv1", 2, 1) + p["bias1b"], 0)
    y = conv(y + p["bias2a"], "conv2", 1, 1) * p["multiplier"] + p["bias2b"]
    expected = jnp.maximum(y + conv(shifted, "shortcut", 2, 0), 0)
    np.testing.assert_allclose(module.apply(variables, IMAGES), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_deep_fixup_net_equals_its_stem_at_initialization_and_trains() -> None:
    class Deep(nn.Module):
        """8 blocks without normalization."""

        @nn.compact
        def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
            layers = LayerBuilder(train=train, norm="none")
            x = nn.relu(nn.Conv(8, (3, 3), padding=1, name="conv1")(images))
            for i in range(8):
                x = FixupBlock(layers, ResidualOptions(), BlockSpec(features=8, blocks=8), name=f"stage1_block{i + 1}")(
                    x
                )
            return nn.Dense(3, name="logits")(x.mean(axis=(1, 2)))

    model, images = Deep(), jnp.asarray(RGB)
    labels = jnp.asarray(np.random.default_rng(3).integers(0, 3, len(RGB)))
    variables = fixup(model, key(0), images)
    tx = optax.sgd(0.05, momentum=0.9)

    def loss(params: Any) -> jax.Array:
        logits = model.apply({"params": params}, images, train=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @functools.partial(jax.jit, compiler_options=OPTIMIZE)
    def train(params: Any) -> Any:
        def step(state: Any, _: None) -> Any:
            params, opt_state = state
            value, gradients = jax.value_and_grad(loss)(params)
            updates, opt_state = tx.update(gradients, opt_state)
            return (optax.apply_updates(params, updates), opt_state), value

        return jax.lax.scan(step, (params, tx.init(params)), length=100)[1]

    losses = np.asarray(train(variables["params"]))
    assert losses[0] == pytest.approx(np.log(3), rel=1e-6)
    assert losses[-1] < 0.5 * losses[0]
    given = outputs(model, variables, RGB)
    np.testing.assert_allclose(given["stage1_block8"], np.maximum(given["conv1"], 0), rtol=1e-6)


def test_fixup_refuses_unsuitable_models() -> None:
    with pytest.raises(ValueError, match=r"ResNet has norm1; build the model with\s+norm='none'"):
        fixup(models.cifar_resnet(num_classes=3, depth=8), key(), RGB)
    with pytest.raises(ValueError, match=r"found no residual branch: .* the layers fc1, fc2, logits, ... of MLP"):
        fixup(models.mlp(num_classes=3), key(), RGB)
    with pytest.raises(ValueError, match="found no classifier"):
        fixup(models.cifar_resnet(num_classes=3, depth=8, norm="none"), key(), RGB, head="head")
    for layers, residual in (
        (LayerBuilder(), ResidualOptions()),
        (LayerBuilder(norm="none"), ResidualOptions(shortcut="none")),
    ):
        with pytest.raises(ValueError, match="for residual nets without normalization"):
            FixupBlock(layers, residual, BlockSpec(features=4)).init(key(), IMAGES)


@pytest.mark.slow
def test_the_option_of_residual_nets() -> None:
    """No normalization, whatever `norm` says; scalars everywhere; all logits 0 at first, and the stem goes through."""
    model = models.cifar_resnet(num_classes=5, depth=8, fixup=True)
    variables = model.init(key(0), jnp.asarray(RGB), train=False)
    assert set(variables) == {"params"}
    names = {p for path in shapes(variables["params"]) for p in str(path).split("/")}
    assert not [n for n in names if "norm" in n]
    params = variables["params"]
    assert params["bias1"].shape == params["bias2"].shape == ()
    assert set(params["conv1"]) == {"kernel"}
    assert deviation(params, "stage3_block1", "conv1") == pytest.approx(3**-0.5 * np.sqrt(2 / (9 * 32)), rel=0.05)
    given = outputs(model, variables, RGB)
    np.testing.assert_allclose(given["stage1_block1"], np.maximum(given["conv1"], 0), rtol=1e-6)
    assert not given["logits"].any()
