"""Weight files against torchvision, timm and hand-written torch nets, and export and reload for all models.

Expected arrays come from `torch_port`, which shares no code with the package.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from jaxtrain.models import MODELS
from jaxtrain.models.alexnets import AlexNet, Convolution
from jaxtrain.models.densenets import DenseNet
from jaxtrain.models.googlenets import GoogLeNet
from jaxtrain.models.residual import ResidualOptions
from jaxtrain.models.resnets import ResNet
from jaxtrain.models.weights import export_arrays, load_weights, save_weights
from jaxtrain.models.weights.name_maps import build_name_map
from jaxtrain.models.weights.tracing import ModelTrace, trace_model
from jaxtrain.nn.layers import LayerBuilder
from tests.levels import slow_except
from tests.models import torch_port as port

CLASSES = 5
SMALL_VIT = {"patch": 8, "width": 16, "depth": 2, "heads": 2, "mlp_width": 32}


def filled(model: Any, shape: tuple[int, int, int], seed: int = 0) -> dict[str, Any]:
    """Return random variables without compiling."""
    rng = np.random.default_rng(seed)
    flat = {path: rng.random(x.shape, np.float32) + 0.5 for path, x in trace_model(model, shape).shapes.items()}
    return traverse_util.unflatten_dict(flat, sep="/")


@functools.cache
def seen(row: str) -> ModelTrace:
    return trace_model(MODELS.create(row, num_classes=1000), (224, 224, 3))


def equal(found: Any, wanted: Any) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def small_resnet(models: Any) -> tuple[Any, Any]:
    theirs = models.ResNet(models.resnet.Bottleneck, [1, 2, 1, 1], num_classes=CLASSES, groups=2, width_per_group=8)
    ours = ResNet(
        num_classes=CLASSES,
        blocks=(1, 2, 1, 1),
        features=(64, 128, 256, 512),
        residual=ResidualOptions(kind="bottleneck", groups=2, group_width=8),
    )
    return theirs, ours


def small_densenet(models: Any) -> tuple[Any, Any]:
    theirs = models.DenseNet(4, (2, 3), 8, num_classes=CLASSES)
    return theirs, DenseNet(num_classes=CLASSES, blocks=(2, 3), growth=4, stem_features=8)


def small_vgg(models: Any) -> tuple[Any, Any]:
    """Return VGG for images of 32x32, created on the meta device, since the original first dense layer is large."""
    import torch

    with torch.device("meta"):
        theirs = models.vgg11_bn(num_classes=CLASSES, init_weights=False)
        theirs.avgpool = torch.nn.Identity()
        theirs.classifier[0] = torch.nn.Linear(512, 4096)
    return theirs.to_empty(device="cpu"), MODELS.create("vgg11_bn", num_classes=CLASSES)


def googlenet(models: Any) -> tuple[Any, Any]:
    theirs = models.googlenet(num_classes=CLASSES, aux_logits=False, init_weights=False)
    return theirs, MODELS.create("googlenet_bn", num_classes=CLASSES)


def small_vit(models: Any) -> tuple[Any, Any]:
    theirs = models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=CLASSES)
    return theirs, MODELS.create("vit", num_classes=CLASSES, **SMALL_VIT)


TORCHVISION: dict[str, tuple[Any, int, Any, Any, bool]] = {
    "resnet": (small_resnet, 32, port.resnet_name, lambda state, path: None, True),
    "densenet": (small_densenet, 64, port.densenet_name, lambda state, path: None, False),
    "vgg11_bn": (small_vgg, 32, port.vgg_name("A", True), lambda state, path: None, True),
    "googlenet": (googlenet, 64, port.googlenet_name, lambda state, path: None, False),
    "vit": (small_vit, 32, port.vit_name, port.vit_leaf, True),
}


@pytest.mark.quick_cases("densenet")
@pytest.mark.parametrize("case", slow_except(TORCHVISION, "resnet", "densenet", "vit"))
def test_torchvision_weights_load_and_export_exactly(case: str, tmp_path: Any) -> None:
    """Arrays equal those of `torch_port`, logits those of torchvision, and the export loads strictly in torchvision."""
    make, side, name, special, runs = TORCHVISION[case]
    models = port.torchvision().models
    import torch
    from safetensors.torch import save_file

    theirs, ours = make(models)
    state = port.randomized(torch, theirs.eval())
    file = tmp_path / "theirs.safetensors"
    save_file(theirs.state_dict(), file)
    variables, report = load_weights(file, ours, (side, side, 3))
    abstract = jax.eval_shape(lambda x: ours.init(jax.random.key(0), x, train=False), jnp.zeros((1, side, side, 3)))
    equal(variables, port.ported(abstract, state, name, special))
    assert report.naming == "torchvision"
    assert set(report.loaded.values()) == set(state)
    assert not report.new
    assert not report.adapted
    assert all(name.endswith("num_batches_tracked") for name in report.left_out)

    save_weights(tmp_path / "ours.safetensors", ours, (side, side, 3), variables, naming="torchvision")
    again, _ = make(models)
    from safetensors.torch import load_file

    again.load_state_dict(load_file(tmp_path / "ours.safetensors"), strict=True)
    for key, value in again.state_dict().items():
        if key in state:
            np.testing.assert_array_equal(value.numpy(), state[key])
    if runs:
        images = np.random.default_rng(1).normal(size=(2, side, side, 3)).astype(np.float32)
        with jax.default_matmul_precision("highest"):
            logits = jax.jit(lambda v, x: ours.apply(v, x, train=False))(variables, images)
        expected = theirs(torch.tensor(images.transpose(0, 3, 1, 2))).detach().numpy()
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
def test_export_reorders_the_rows_of_the_first_dense_layer() -> None:
    """torch flattens the 2x3 feature map channels first, jaxtrain channels last."""
    model = MODELS.create("vgg11", num_classes=CLASSES)
    variables = filled(model, (64, 96, 3))
    kernel = variables["params"]["fc1"]["kernel"]
    wanted = port.to_torch_layout(kernel, (2, 3))
    arrays = export_arrays(model, (64, 96, 3), variables, naming="torchvision")
    np.testing.assert_array_equal(arrays["classifier.0.weight"], wanted)
    timm = export_arrays(model, (64, 96, 3), variables, naming="timm")
    np.testing.assert_array_equal(timm["pre_logits.fc1.weight"], wanted.reshape(4096, 512, 2, 3))
    assert timm["pre_logits.fc2.weight"].shape == (4096, 4096, 1, 1)
    for found in (arrays, timm):
        equal(load_weights(found, model, (64, 96, 3))[0], variables)


def test_alexnet_name_map_equals_torchvision() -> None:
    """Names and shapes of `state_dict()`, with the options that make the class torchvision's net."""
    models = port.torchvision().models
    import torch

    with torch.device("meta"):
        theirs = {k: tuple(v.shape) for k, v in models.alexnet().state_dict().items()}
    widths = ((64, 11, 4, 2), (192, 5, 1, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1))
    convolutions = tuple(Convolution(*w, pooled=i in (0, 1, 4)) for i, w in enumerate(widths))
    ours = AlexNet(num_classes=1000, convolutions=convolutions, norm_position="none")
    found = build_name_map(ours, trace_model(ours, (224, 224, 3)), "torchvision").entries
    assert {entry.name: entry.shape for entry in found} == theirs


@pytest.mark.slow
def test_googlenet_auxiliary_heads_load_from_torchvision_names() -> None:
    models = port.torchvision().models
    import torch

    with torch.device("meta"):
        theirs = models.googlenet(num_classes=CLASSES, init_weights=False)
    shapes = {k: tuple(v.shape) for k, v in theirs.state_dict().items() if not k.endswith("num_batches_tracked")}
    model = GoogLeNet(CLASSES, window=3, last_pool=2, layers=LayerBuilder())
    variables = filled(model, (224, 224, 3))
    arrays = export_arrays(model, (224, 224, 3), variables, naming="torchvision")
    assert {k: v.shape for k, v in arrays.items()} == shapes
    kernel = variables["params"]["auxiliary_4d"]["fc"]["kernel"]
    np.testing.assert_array_equal(arrays["aux2.fc1.weight"], port.to_torch_layout(kernel, (4, 4)))
    loaded, report = load_weights(arrays, model, (224, 224, 3))
    equal(loaded, variables)
    assert "epsilon 0.001" in str(report)

    without, report = load_weights(arrays, model.clone(auxiliary=False), (64, 64, 3))
    assert not any("auxiliary" in path for path in traverse_util.flatten_dict(without, sep="/"))
    assert {name[:4] for name in report.left_out} == {"aux1", "aux2"}


def cifar_net(torch: Any, state: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    """ResNet-8 with the names and the zeros of pytorch_resnet_cifar10."""
    f, s = torch.nn.functional, {k: torch.tensor(v) for k, v in state.items()}

    def normed(x: Any, name: str) -> Any:
        keys = ("running_mean", "running_var", "weight", "bias")
        return f.batch_norm(x, *(s[f"{name}.{key}"] for key in keys))

    x = torch.tensor(images.transpose(0, 3, 1, 2))
    x = f.relu(normed(f.conv2d(x, s["conv1.weight"], padding=1), "bn1"))
    for layer, stride in ((1, 1), (2, 2), (3, 2)):
        name = f"layer{layer}.0"
        y = f.relu(normed(f.conv2d(x, s[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn1"))
        y = normed(f.conv2d(y, s[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
        side = (y.shape[1] - x.shape[1]) // 2
        x = f.relu(y + f.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, side, side)))
    return f.linear(x.mean((2, 3)), s["linear.weight"], s["linear.bias"]).numpy()


@pytest.mark.slow
def test_pytorch_resnet_cifar10_weights_load_and_export_exactly() -> None:
    """Its shortcuts pad channels on both sides, ours only after them; reordered channels give the same function."""
    torch = pytest.importorskip("torch", reason="the oracle is a hand-written torch net")
    model = MODELS.create("cifar_resnet", num_classes=CLASSES, depth=8)
    variables = filled(model, (8, 8, 3))
    variables["params"] = jax.tree.map(lambda x: x - 1 if x.ndim > 1 else x, variables["params"])
    arrays = export_arrays(model, (8, 8, 3), variables, naming="akamaster")
    assert {"conv1.weight", "layer2.0.bn2.running_var", "layer3.0.conv2.weight", "linear.bias"} < arrays.keys()
    images = np.random.default_rng(1).normal(size=(2, 8, 8, 3)).astype(np.float32)
    with jax.default_matmul_precision("highest"):
        logits = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, images)
    np.testing.assert_allclose(logits, cifar_net(torch, arrays, images), rtol=1e-4, atol=1e-4)
    loaded, report = load_weights({f"module.{k}": v for k, v in arrays.items()}, model, (8, 8, 3))
    equal(loaded, variables)
    assert report.naming == "akamaster"
    assert "every name had the prefix 'module.'" in str(report)

    model = MODELS.create("cifar_resnet", num_classes=CLASSES, depth=8, shortcut="B")
    variables = filled(model, (8, 8, 3))
    arrays = export_arrays(model, (8, 8, 3), variables, naming="akamaster")
    assert "layer2.0.shortcut.1.running_mean" in arrays
    equal(load_weights(arrays, model, (8, 8, 3))[0], variables)


@pytest.mark.parametrize("library", ["torchvision", "timm"])
@pytest.mark.parametrize(
    "row",
    slow_except(["resnet34", "wide_resnet50_2", "vgg11", "vgg16_bn", "densenet121", "vit_b_16"], "resnet34", "vgg11"),
)
def test_large_models_have_the_names_and_shapes_of_torchvision_and_timm(row: str, library: Any) -> None:
    models = port.torchvision().models
    if library == "timm":
        timm = pytest.importorskip("timm", reason="the oracle is timm")
    import torch

    with torch.device("meta"):
        if library == "torchvision":
            theirs = getattr(models, row)().state_dict()
        else:
            theirs = timm.create_model("vit_base_patch16_224" if row == "vit_b_16" else row).state_dict()
    model = MODELS.create(row, num_classes=1000)
    found = build_name_map(model, seen(row), library).entries
    wanted = {k: tuple(v.shape) for k, v in theirs.items() if not k.endswith("num_batches_tracked")}
    assert {entry.name: entry.shape for entry in found} == wanted


def test_timm_vit_weights_load_and_export_exactly() -> None:
    port.torchvision()
    timm = pytest.importorskip("timm", reason="the oracle is timm")
    import torch

    options = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 2}
    theirs = timm.models.vision_transformer.VisionTransformer(num_classes=CLASSES, **options).eval()
    state = port.randomized(torch, theirs)
    model = MODELS.create("vit", num_classes=CLASSES, **SMALL_VIT)
    variables, report = load_weights(state, model, (32, 32, 3))
    assert report.naming == "timm"
    images = np.random.default_rng(1).normal(size=(2, 32, 32, 3)).astype(np.float32)
    with jax.default_matmul_precision("highest"):
        logits = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, images)
    expected = theirs(torch.tensor(images.transpose(0, 3, 1, 2))).detach().numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    saved = export_arrays(model, (32, 32, 3), variables, naming="timm")
    theirs.load_state_dict({k: torch.tensor(v) for k, v in saved.items()}, strict=True)


ROWS: dict[str, tuple[tuple[int, int, int], dict[str, Any], set[str]]] = {
    "linear": ((5, 4, 2), {}, set()),
    "mlp": ((5, 4, 2), {"widths": (7,)}, set()),
    "lenet5": ((32, 28, 1), {}, set()),
    "lenet5_1998": ((32, 32, 1), {}, set()),
    "alexnet": ((67, 67, 3), {}, {"torchvision"}),
    "cifar_resnet": (
        (8, 8, 3),
        {"depth": 8, "shortcut": "C", "activation": "leaky_relu"},
        {"torchvision", "timm", "akamaster"},
    ),
    "cifar_resnet_plain": (
        (8, 8, 3),
        {"depth": 8, "shortcut": "none", "norm": "group"},
        {"torchvision", "timm", "akamaster"},
    ),
    "cifar_resnext": ((32, 32, 3), {"depth": 11}, {"torchvision", "timm"}),
    "preact_resnet": ((8, 8, 3), {"depth": 11, "kind": "bottleneck"}, set()),
    "wrn_16_4": ((8, 8, 3), {}, set()),
    "cifar_densenet": ((8, 8, 3), {"depth": 10, "growth": 4}, {"torchvision", "timm"}),
    "fractalnet": ((32, 32, 3), {"features": (8, 8), "dropout_rates": (0, 0)}, set()),
    "vit": ((16, 24, 3), SMALL_VIT, {"torchvision", "timm"}),
}


@pytest.mark.quick_cases("lenet5", "mlp")
@pytest.mark.parametrize("row", slow_except(ROWS, "mlp", "lenet5", "cifar_resnet", "vit"))
def test_exported_and_reloaded_weights_are_bitwise_equal(row: str, tmp_path: Any) -> None:
    """The test covers each naming that the model has."""
    shape, options, libraries = ROWS[row]
    model = MODELS[row.removesuffix("_plain")].load()(num_classes=10, **options)
    variables = filled(model, shape)
    flat = traverse_util.flatten_dict(variables, sep="/")
    save_weights(tmp_path / "ours.safetensors", model, shape, variables)
    loaded, report = load_weights(tmp_path / "ours.safetensors", model, shape)
    equal(loaded, variables)
    assert report.naming == "jaxtrain"
    assert report.loaded == {path: path for path in flat}
    for naming in sorted(libraries):
        arrays = export_arrays(model, shape, variables, naming=naming)
        assert sum(x.size for x in arrays.values()) == sum(x.size for x in flat.values())
        assert all(x.flags.c_contiguous for x in arrays.values())  # which safetensors does not check
        np.savez(tmp_path / "theirs.npz", **arrays)
        loaded, report = load_weights(tmp_path / "theirs.npz", model, shape)
        equal(loaded, variables)
        assert set(report.loaded.values()) == arrays.keys()


@pytest.mark.slow
def test_weights_with_names_of_earlier_torchvision_releases_load() -> None:
    vit = MODELS.create("vit", num_classes=CLASSES, **SMALL_VIT)
    dense = DenseNet(num_classes=CLASSES, blocks=(2, 2), growth=4, stem_features=8)
    for model, pairs in (
        (vit, ((".mlp.0.", ".mlp.linear_1."), (".mlp.3.", ".mlp.linear_2."))),
        (dense, ((".conv1.", ".conv.1."), (".conv2.", ".conv.2."), (".norm1.", ".norm.1."), (".norm2.", ".norm.2."))),
    ):
        variables = filled(model, (32, 32, 3))
        arrays = export_arrays(model, (32, 32, 3), variables, naming="torchvision")
        older = {}
        for name, array in arrays.items():
            for new, old in pairs:
                name = name.replace(new, old)
            older[name] = array
        assert len(older.keys() - arrays.keys()) > 4
        loaded, report = load_weights(older, model, (32, 32, 3))
        equal(loaded, variables)
        assert set(report.loaded.values()) == set(older)
