"""Layers, counts and receptive fields against the tables of the literature and against gradients."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxtrain.analysis.summary import Summary, summary
from jaxtrain.config import ModelSpec
from jaxtrain.models import MODELS
from jaxtrain.models.residual import BlockSpec, ResidualBlock, ResidualOptions
from jaxtrain.nn.activations import PReLU
from jaxtrain.nn.layers import LayerBuilder
from jaxtrain.nn.normalization import BatchNorm
from jaxtrain.nn.pooling import average_pool, global_pool, max_pool, pool
from tests.levels import slow_except


@pytest.fixture(autouse=True)
def _fast() -> Iterator[None]:
    with jax.debug_key_reuse(False):  # only the test suite turns it on, and it slows down tracing
        yield


def summarize(spec: str, shape: tuple[int, int, int] | None = None, **options: Any) -> Summary:
    parsed = ModelSpec.parse(spec)
    facts = MODELS[parsed.name].reference
    return summary(parsed.build(num_classes=facts["num_classes"]), shape or facts["input"], **options)


def convolutions(*layers: tuple[int, int, int]) -> list[tuple[str, tuple[int, ...], int]]:
    return [("conv 3x3 pad 1, relu", (side, side, c), weights) for side, c, weights in layers]


def tile(side: int, channels: int) -> tuple[str, tuple[int, ...], int]:
    return ("max pool 2x2/2", (side, side, channels), 0)


VGG16 = [  # output and weights without biases, as on the lecture's slides
    ("input", (224, 224, 3), 0),
    *convolutions((224, 64, 1_728), (224, 64, 36_864)),
    tile(112, 64),
    *convolutions((112, 128, 73_728), (112, 128, 147_456)),
    tile(56, 128),
    *convolutions((56, 256, 294_912), (56, 256, 589_824), (56, 256, 589_824)),
    tile(28, 256),
    *convolutions((28, 512, 1_179_648), (28, 512, 2_359_296), (28, 512, 2_359_296)),
    tile(14, 512),
    *convolutions(*[(14, 512, 2_359_296)] * 3),
    tile(7, 512),
    ("dense, relu", (4096,), 102_760_448),
    ("dense, relu", (4096,), 16_777_216),
    ("dense", (1000,), 4_096_000),
]


def test_the_summary_of_vgg16_equals_the_lecture_row_by_row() -> None:
    found = summarize("vgg16")
    assert [(x.kind, x.shape, x.weights) for x in found.fold_minor()] == VGG16
    assert sum(x.weights for x in found.layers) == 138_344_128
    assert sum(x.biases for x in found.layers) == 13_416
    assert found.activations == 15_237_608
    assert sum(x.activations for x in found.layers) == 28_793_320  # with a separate output for every ReLU
    assert sum(x.activation_bytes for x in found.fold_minor()) == 4 * 15_237_608
    assert found.parameter_bytes == 4 * 138_357_544
    fields = {x.name: (x.field.size, x.field.stride) for x in found.layers}
    assert fields["stage5_conv3"] == ((196, 196), (16, 16))
    assert fields["max_pool_5"] == ((212, 212), (32, 32))
    assert [x.name for x in found.fold_minor() if x.field.whole] == ["fc1", "fc2", "logits"]


def test_the_summary_of_alexnet_equals_the_literature_row_by_row() -> None:
    rows = {x.name: x for x in summarize("alexnet").fold_minor()}
    parameters = (34_944, 307_456, 885_120, 663_936, 442_624, 37_752_832, 16_781_312, 4_097_000)
    names = [*(f"conv{i}" for i in range(1, 6)), "fc1", "fc2", "logits"]
    assert tuple(rows[n].parameters for n in names) == parameters
    assert [rows[n].shape[0] for n in names[:5]] == [55, 27, 13, 13, 13]
    assert [rows[n].shape for n in ("max_pool", "max_pool_2", "max_pool_3")] == [
        (27, 27, 96),
        (13, 13, 256),
        (6, 6, 256),
    ]
    assert rows["local_response_norm"].shape == (55, 55, 96)
    assert rows["local_response_norm_2"].shape == (27, 27, 256)
    sizes = {n: x.field.size[0] for n, x in rows.items()}
    published = {"conv1": 11, "max_pool": 19, "conv2": 51, "max_pool_2": 67, "conv3": 99, "conv4": 131, "conv5": 163}
    assert {n: sizes[n] for n in published} == published
    assert sizes["max_pool_3"] == 195
    assert rows["conv2"].kind == "conv 5x5 pad 2 groups 2, relu"
    assert rows["conv1"].kind == "conv 11x11/4, relu"


def test_the_summary_of_lenet5_1998_equals_the_paper_row_by_row() -> None:
    rows = {x.name: x for x in summarize("lenet5_1998").fold_minor()}
    assert {n: rows[n].parameters for n in ("c1", "s2", "c3", "s4", "c5", "f6")} == {
        "c1": 156,
        "s2": 12,
        "c3": 1_516,
        "s4": 32,
        "c5": 48_120,
        "f6": 10_164,
    }
    assert [rows[n].shape for n in ("c1", "s2", "c3", "s4", "c5", "f6")] == [
        (28, 28, 6),
        (14, 14, 6),
        (10, 10, 16),
        (5, 5, 16),
        (1, 1, 120),
        (84,),
    ]
    assert rows["s2"].kind == "average pool 2x2/2, tanh"
    # each output of C1 is connected to 25 pixels and its bias
    assert rows["c1"].multiply_adds + 28 * 28 * 6 == 122_304


ROWS = """
linear mlp lenet5 lenet5_1998 alexnet alexnet_one_tower zfnet zfnet_wide vgg11 vgg16_bn vgg16_c googlenet_bn resnet18
plain18 resnet20 plain20 wrn_16_4 wrn_40_1 resnext29_8x64d vit_s_16 fractalnet
""".split()  # noqa: SIM905


@pytest.mark.quick_cases("mlp", "resnet20")
@pytest.mark.parametrize(
    "name", slow_except(ROWS, "mlp", "lenet5_1998", "zfnet", "plain20", "resnet20", "vit_s_16", "fractalnet")
)
def test_summary_counts_equal_those_of_the_model_registry(name: str) -> None:
    facts, found = MODELS[name].reference, summarize(name)
    assert sum(x.multiply_adds for x in found.layers) == found.multiply_adds == facts["multiply_adds"]
    assert sum(x.parameters for x in found.layers) == found.parameters == facts["parameters"]
    for rows in (found.fold_minor(), found.fold_minor(1)):  # folding keeps all counts
        assert sum(x.multiply_adds for x in rows) == found.multiply_adds
        assert sum(x.parameters for x in rows) == found.parameters
        assert sum(x.statistics for x in rows) == found.statistics
        assert sum(x.activations for x in rows) == found.activations
    assert len({x.name for x in found.layers}) == len(found.layers)


@pytest.mark.slow
def test_the_summary_shows_auxiliary_heads_in_training_only() -> None:
    tested, trained = summarize("googlenet"), summarize("googlenet", train=True)
    assert tested.unused == {"auxiliary_4a": 3_188_840, "auxiliary_4d": 3_190_888}
    assert sum(x.parameters for x in tested.layers) == 6_998_552
    assert trained.unused == {}
    assert sum(x.parameters for x in trained.layers) == tested.parameters == trained.parameters == 13_378_280
    kinds = {x.name: x.kind for x in trained.fold_minor()}
    assert kinds["auxiliary_4a/average_pool"] == "average pool 5x5/3"
    assert kinds["auxiliary_4a/fc"] == "dense, relu, dropout"
    blocks = {x.name: x for x in tested.fold_minor(1)}
    counts = {"3a": 163_696, "3b": 388_736, "4a": 376_176, "4e": 868_352, "5b": 1_444_080}
    assert {m: blocks[f"inception_{m}"].parameters for m in counts} == counts
    assert blocks["inception_3a"].kind == "Inception, 8 layers"


@pytest.mark.slow
@pytest.mark.parametrize(("stride_in", "size"), [("3x3", 427), ("1x1", 483)])
def test_the_receptive_field_of_resnet50_depends_on_the_position_of_the_stride(stride_in: str, size: int) -> None:
    rows = {x.name: x for x in summarize(f"resnet(depth=50, stride_in={stride_in!r})").fold_minor(1)}
    assert rows["stage4_block3"].field.size == (size, size)
    assert rows["stage4_block3"].field.stride == (32, 32)
    assert rows["global_average_pool"].field.whole


class Net(nn.Module):
    """Linear layers with positive weights everywhere in a window."""

    body: Any

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        layers = LayerBuilder(train=train, norm="none", activation="identity", kernel_init="he")
        return self.body(self, layers, images)


def stacked(module: Any, layers: LayerBuilder, x: jax.Array) -> jax.Array:
    x = layers.conv(x, 2, 5, stride=2, name="a")
    x = average_pool(x, 3, 2, padding=1)
    x = nn.Conv(2, (3, 3), kernel_dilation=2, padding=2, name="b")(x)
    return pool(x[:, 1:], "average")


def bottlenecks(stride_in: Any) -> Any:
    def body(module: Any, layers: LayerBuilder, x: jax.Array) -> jax.Array:
        for i, stride in enumerate((1, 2, 1)):
            residual = ResidualOptions(kind="bottleneck", stride_in=stride_in)
            x = ResidualBlock(layers, residual, BlockSpec(features=1, width=1, stride=stride), name=f"block{i}")(x)
        return x

    return body


def sparse_shortcuts(module: Any, layers: LayerBuilder, x: jax.Array) -> jax.Array:
    for i, stride in enumerate((2, 2)):
        place = BlockSpec(features=2 + 2 * i, stride=stride)
        x = ResidualBlock(layers, ResidualOptions(shortcut="A"), place, name=f"block{i}")(x)
    return x


def branches(module: Any, layers: LayerBuilder, x: jax.Array) -> jax.Array:
    x = layers.conv(x, 2, 3, stride=2, name="stem")
    return jnp.concatenate([layers.conv(x, 1, 1, name="a"), layers.conv(x, 1, 5, name="b"), pool_between(x)], -1)


def pool_between(x: jax.Array) -> jax.Array:
    return average_pool(x, 3, 1, padding=1)


def patches(module: Any, layers: LayerBuilder, x: jax.Array) -> jax.Array:
    """Make patches with a space-to-depth reshape and a transposition."""
    n, h, w, c = x.shape
    x = x.reshape(n, h // 4, 4, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(n, h // 4, w // 2, 8 * c)
    return layers.conv(x, 2, 3, name="a")


def strip(module: Any, layers: LayerBuilder, x: jax.Array) -> jax.Array:
    return layers.conv(x, 2, 3, name="a").mean(axis=2, keepdims=True)


@pytest.mark.parametrize(
    "body",
    [stacked, bottlenecks("3x3"), bottlenecks("1x1"), sparse_shortcuts, branches, patches, strip],
    ids=["stacked", "3x3", "1x1", "shortcut A", "branches", "patches", "strip"],
)
def test_receptive_fields_of_layers_equal_the_nonzeros_of_gradients(body: Any) -> None:
    model, side = Net(body), 48
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), jnp.zeros((1, side, side, 1)))
    ones = jax.tree.map(lambda x: np.ones(x.shape, np.float32), variables)
    shape = jax.eval_shape(lambda x: model.apply(ones, x, train=False), jnp.zeros((1, side, side, 1))).shape

    @jax.jit
    def seen(row: jax.Array, column: jax.Array) -> jax.Array:
        return jax.grad(lambda x: model.apply(ones, x, train=False)[0, row, column].sum())(
            jnp.ones((1, side, side, 1))
        )[0, :, :, 0]

    row, column = shape[1] // 2 - 1, shape[2] // 2 - (shape[2] > 1)
    first = [np.flatnonzero(np.any(np.asarray(seen(row, column)) != 0, axis=1 - a)) for a in (0, 1)]
    other = min(column + 1, shape[2] - 1)
    second = [np.flatnonzero(np.any(np.asarray(seen(row + 1, other)) != 0, axis=1 - a)) for a in (0, 1)]
    field = summary(model, (side, side, 1)).layers[-1].field
    assert field.size == tuple(x[-1] - x[0] + 1 for x in first) or body is strip
    assert field.stride == tuple(b[0] - a[0] for a, b in zip(first, second, strict=True))
    if body is strip:  # its field is whole rows with the padding at their ends
        assert field.size == (3, side + 2)
        assert [len(x) for x in first] == [3, side]


class Odd(nn.Module):
    """Operations that no model of the registry has."""

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        x = nn.Conv(8, (3, 3), name="conv")(images)
        shared = nn.Conv(8, (1, 1), use_bias=False, name="shared")
        x = shared(shared(x))
        x = BatchNorm(train=train, name="norm")(x)
        x = PReLU(name="slope")(x)
        gate = nn.sigmoid(nn.Dense(8, name="gate")(global_pool(x)))
        x = x * gate[:, None, None]
        x = x * self.param("scale", nn.initializers.ones, (8,)).reshape(1, 1, 1, -1)
        x = x / jnp.sqrt(jnp.square(x).sum(axis=-1, keepdims=True))
        x = x.reshape(*x.shape[:-1], 4, 2).max(axis=-1)  # maxout
        x, _ = jax.lax.scan(lambda y, _: (y @ jnp.ones((4, 4)), None), x, length=3)
        x = max_pool(x, 3, 2, padding=1)
        x = x.reshape(x.shape[0], -1, 4)
        weights = nn.softmax(x @ x.swapaxes(1, 2))
        return nn.Dense(3, name="logits")((weights @ x).mean(axis=1))


def test_the_summary_describes_modules_of_any_kind() -> None:
    found = summary(Odd(), (8, 8, 3))
    rows = [(x.name, x.kind, x.shape, x.parameters, x.multiply_adds) for x in found.fold_minor()]
    assert rows == [
        ("input", "input", (8, 8, 3), 0, 0),
        ("conv", "conv 3x3 pad 1", (8, 8, 8), 224, 8 * 8 * 8 * 27),
        ("shared", "conv 1x1", (8, 8, 8), 64, 8 * 8 * 64),
        ("shared_2", "conv 1x1, BN, prelu", (8, 8, 8), 16 + 8, 8 * 8 * 64),
        ("global_average_pool", "global average pool", (8,), 0, 0),
        ("gate", "dense, sigmoid", (8,), 72, 64),
        ("multiply", "multiply", (8, 8, 8), 0, 0),
        ("scale", "multiply, normalization", (8, 8, 8), 8, 0),
        ("max", "max over 2", (8, 8, 4), 0, 0),
        ("loop", "loop", (8, 8, 4), 0, 3 * 8 * 8 * 4 * 4),
        ("max_pool", "max pool 3x3/2 pad 1", (4, 4, 4), 0, 0),
        ("matmul", "matmul, softmax", (16, 16), 0, 16 * 16 * 4),
        ("matmul_2", "matmul", (16, 4), 0, 16 * 16 * 4),
        ("global_average_pool_2", "global average pool", (4,), 0, 0),
        ("logits", "dense", (3,), 15, 12),
    ]
    assert found.statistics == 16
    assert next(x.name for x in found.fold_minor() if x.field.whole) == "global_average_pool"


@pytest.mark.quick_cases("True-batch", "False-layer")
@pytest.mark.parametrize("norm", ["batch", "layer", "instance", "group"])
@pytest.mark.parametrize("train", [False, True])
def test_a_normalization_is_one_layer_with_the_receptive_field_of_its_input(norm: str, train: bool) -> None:
    found = summarize(f"cifar_resnet(depth=8, norm={norm!r})", (16, 16, 3), train=train)
    rows = [x for x in found.layers if x.kind == f"{norm} norm"]
    assert [x.name for x in rows] == ["norm1", *(f"stage{s}_block1/norm{i}" for s in (1, 2, 3) for i in (1, 2))]
    assert all(x.minor and x.field.size == found.layers[x.source].field.size for x in rows)
    assert all(x.parameters == 2 * x.shape[-1] for x in rows)
    assert {x.name: x.field.size[0] for x in found.fold_minor()}["stage1_block1/add"] == 7


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid", "elu", "gelu", "silu", "prelu", "scaled_tanh"])
def test_the_summary_shows_each_activation_as_one_layer(name: str) -> None:
    found = summarize(f"mlp(widths=[8], activation={name!r}, dropout_rate=0.2)", train=True)
    kind = name.removeprefix("scaled_")
    assert [x.kind for x in found.layers] == ["input", "dense", kind, "dropout", "dense"]
    assert [x.kind for x in found.fold_minor()] == ["input", f"dense, {kind}, dropout", "dense"]


def test_the_receptive_field_of_a_transformer_is_the_image_after_attention() -> None:
    found = summarize("vit(patch=8, width=16, heads=2, depth=1, mlp_width=32)", (32, 32, 3))
    rows = {x.name: x for x in found.fold_minor()}
    assert rows["patches"].field.size == (8, 8)
    assert rows["class_token"].parameters == 16
    assert rows["positions"].parameters - 2 * 16 == 17 * 16  # without those of the normalization after it
    assert not rows["block1/attention/query"].field.whole
    assert rows["block1/attention/matmul"].field.whole
    assert rows["block1/fc1"].kind == "dense, gelu"
