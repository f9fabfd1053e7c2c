"""Weights adapted to other channels, classes and sizes, and errors for files that do not fit."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import traverse_util
from safetensors.numpy import load_file, save_file

from jaxtrain.errors import WeightsError
from jaxtrain.models import MODELS
from jaxtrain.models.resnets import ResNet
from jaxtrain.models.weights import export_arrays, load_weights, save_weights
from jaxtrain.models.weights.resampling import bicubic
from jaxtrain.models.weights.resize import resize_channels, resize_dense_kernel, resize_positions
from jaxtrain.models.weights.tracing import trace_model
from jaxtrain.nn.layers import LayerBuilder
from tests.models import torch_port as port

SHAPE = (8, 8, 3)
VIT = {"patch": 4, "width": 8, "depth": 1, "heads": 2, "mlp_width": 16}


def net(**options: Any) -> ResNet:
    return ResNet(**{"num_classes": 4, "blocks": (1, 1), "features": (8, 16), "stem": "cifar", **options})


def filled(model: Any, shape: tuple[int, int, int] = SHAPE) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    flat = {
        path: rng.random(x.shape, np.float32).astype(x.dtype) for path, x in trace_model(model, shape).shapes.items()
    }
    return traverse_util.unflatten_dict(flat, sep="/")


def test_load_weights_replaces_the_head_for_other_classes() -> None:
    small: dict[str, Any] = {"blocks": (1,), "features": (8,)}
    arrays = export_arrays(net(**small), SHAPE, filled(net(**small)), naming="torchvision")
    other, key = net(num_classes=7, **small), jax.random.key(3)
    with pytest.raises(WeightsError, match=r'fc.weight is 4x8 in the file and 7x8 .*(?s:.*)set head="new"'):
        load_weights(arrays, other, SHAPE)
    variables, report = load_weights(arrays, other, SHAPE, head="new", key=key)
    initial = jax.jit(lambda: other.init(key, jnp.zeros((1, *SHAPE)), train=False))()
    np.testing.assert_array_equal(variables["params"]["logits"]["kernel"], initial["params"]["logits"]["kernel"])
    np.testing.assert_array_equal(variables["params"]["conv1"]["kernel"], port.to_jax_layout(arrays["conv1.weight"]))
    assert report.new == ("params/logits/bias", "params/logits/kernel")
    assert set(report.left_out) == {"fc.weight", "fc.bias"}
    assert "new: params/logits/bias" in str(report)
    headless = {name: array for name, array in arrays.items() if not name.startswith("fc.")}
    zeros, report = load_weights(headless, other, SHAPE, head="zeros")
    assert not zeros["params"]["logits"]["kernel"].any()
    assert report.left_out == ()


@pytest.mark.parametrize("naming", ["jaxtrain", "torchvision"])
def test_load_weights_adapts_the_first_convolution_to_gray_images(naming: Any) -> None:
    arrays = export_arrays(net(), SHAPE, filled(net()), naming=naming)
    with pytest.raises(
        WeightsError,
        match=r'is a first convolution for 3 channels: set first_conv="adapt" to convert it to one for 1 channel\.',
    ):
        load_weights(arrays, net(), (8, 8, 1))
    variables, report = load_weights(arrays, net(), (8, 8, 1), first_conv="adapt")
    kernel = filled(net())["params"]["conv1"]["kernel"]
    np.testing.assert_allclose(variables["params"]["conv1"]["kernel"], kernel.sum(axis=2, keepdims=True), rtol=1e-6)
    assert list(report.adapted) == ["params/conv1/kernel"]
    assert "for 3 channels, converted to one for 1 channel" in str(report)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_resize_channels_equals_timm(channels: int) -> None:
    port.torchvision()
    manipulate = pytest.importorskip("timm.models._manipulate", reason="the oracle is timm")
    import torch

    kernel = np.random.default_rng(0).normal(size=(5, 5, 3, 4)).astype(np.float32)
    wanted = manipulate.adapt_input_conv(channels, torch.tensor(port.to_torch_layout(kernel))).numpy()
    np.testing.assert_allclose(resize_channels(kernel, channels), port.to_jax_layout(wanted), rtol=1e-6)


def test_resize_channels_keeps_the_output_for_equal_channels() -> None:
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 4)).astype(np.float32)
    for channels in (1, 3, 6, 9):
        np.testing.assert_allclose(resize_channels(kernel, channels).sum(axis=2), kernel.sum(axis=2), atol=1e-5)


@pytest.mark.parametrize(("old", "new"), [(7, 7), (7, 12), (14, 6), (3, 1), (1, 4), (2, 5)])
def test_bicubic_interpolation_equals_torch(old: int, new: int) -> None:
    torch = pytest.importorskip("torch", reason="the oracle is torch")
    grid = np.random.default_rng(0).normal(size=(old, old, 3)).astype(np.float32)
    options: dict[Any, Any] = {"torchvision": {"align_corners": True}, "timm": {"antialias": True}}
    for convention, given in options.items():
        found = np.einsum("yh,xw,hwc->yxc", *[bicubic(old, new, convention)] * 2, grid)
        image = torch.tensor(grid.transpose(2, 0, 1))[None]
        wanted = torch.nn.functional.interpolate(image, (new, new), mode="bicubic", **given)
        np.testing.assert_allclose(found, wanted[0].numpy().transpose(1, 2, 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [8, 24])
def test_resized_position_embeddings_equal_torchvision(side: int) -> None:
    models = port.torchvision().models
    import torch

    model = MODELS.create("vit", num_classes=4, **VIT)
    arrays = export_arrays(model, (16, 16, 3), filled(model, (16, 16, 3)), naming="torchvision")
    state = {"encoder.pos_embedding": torch.tensor(arrays["encoder.pos_embedding"])}
    wanted = models.vision_transformer.interpolate_embeddings(side, 4, state)["encoder.pos_embedding"]
    with pytest.raises(
        WeightsError,
        match='is an array of positions of 4x4 patches: set positions="torchvision" or "timm" to convert it',
    ):
        load_weights(arrays, model, (side, side, 3))
    variables, report = load_weights(arrays, model, (side, side, 3), positions="torchvision")
    np.testing.assert_allclose(variables["params"]["positions"], wanted.numpy(), rtol=1e-4, atol=1e-5)
    assert list(report.adapted) == ["params/positions"]


def test_position_embeddings_resize_to_images_that_are_not_square() -> None:
    torch = pytest.importorskip("torch", reason="the oracle is torch")
    positions = np.random.default_rng(0).normal(size=(1, 10, 4)).astype(np.float32)
    found = resize_positions(positions, (3, 3), (2, 5), "timm")
    grid = torch.tensor(positions[:, 1:]).reshape(1, 3, 3, 4).permute(0, 3, 1, 2)
    wanted = torch.nn.functional.interpolate(grid, (2, 5), mode="bicubic", antialias=True)
    np.testing.assert_allclose(found[:, 1:], wanted.permute(0, 2, 3, 1).reshape(1, -1, 4), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found[:, 0], positions[:, 0])


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 9), (7, 7)])
def test_resize_dense_kernel_equals_torch_adaptive_pooling(size: tuple[int, int]) -> None:
    """torchvision's VGG pools feature maps of other sizes to 7x7."""
    torch = pytest.importorskip("torch", reason="the oracle is torch")
    rng = np.random.default_rng(0)
    kernel, image = rng.normal(size=(7 * 7 * 3, 4)), rng.normal(size=(2, *size, 3))
    pooled = torch.nn.functional.adaptive_avg_pool2d(torch.tensor(image.transpose(0, 3, 1, 2)), (7, 7))
    wanted = pooled.flatten(1) @ torch.tensor(port.to_torch_layout(kernel, (7, 7))).T
    np.testing.assert_allclose(
        image.reshape(2, -1) @ resize_dense_kernel(kernel, (7, 7, 3), (*size, 3)), wanted, rtol=1e-8
    )


def test_load_weights_resizes_a_dense_layer_on_a_flattened_map() -> None:
    model = MODELS.create("fractalnet", num_classes=4, columns=1, features=(8,), dropout_rates=(0.0,))
    arrays = export_arrays(model, (8, 8, 3), filled(model, (8, 8, 3)))
    with pytest.raises(
        WeightsError, match='is a dense layer on a 4x4 map: set first_dense="pooled" to convert it to one on a 2x3 map'
    ):
        load_weights(arrays, model, (4, 6, 3))
    variables, _ = load_weights(arrays, model, (4, 6, 3), first_dense="pooled")
    wanted = resize_dense_kernel(arrays["params/logits/kernel"], (4, 4, 8), (2, 3, 8))
    np.testing.assert_array_equal(variables["params"]["logits"]["kernel"], wanted)


@pytest.mark.quick_cases("bfloat16-.safetensors", "float16-.npz")
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_load_weights_casts_other_floating_point_dtypes(dtype: Any, suffix: str, tmp_path: Any) -> None:
    """numpy itself has no bfloat16."""
    arrays = {k: v.astype(dtype) for k, v in export_arrays(net(), SHAPE, filled(net()), naming="torchvision").items()}
    (np.savez(tmp_path / "x.npz", **arrays) if suffix == ".npz" else save_file(arrays, tmp_path / "x.safetensors"))
    variables, _ = load_weights(tmp_path / f"x{suffix}", net(), SHAPE)
    kernel = variables["params"]["conv1"]["kernel"]
    assert kernel.dtype == jnp.float32
    np.testing.assert_array_equal(kernel, port.to_jax_layout(arrays["conv1.weight"].astype(np.float32)))


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_bfloat16_weights_survive_saving_and_loading(suffix: str, tmp_path: Any) -> None:
    model = net(layers=LayerBuilder(param_dtype="bfloat16"))
    save_weights(tmp_path / f"x{suffix}", model, SHAPE, filled(model))
    variables, _ = load_weights(tmp_path / f"x{suffix}", model, SHAPE)
    assert variables["params"]["conv1"]["kernel"].dtype == jnp.bfloat16
    jax.tree.map(np.testing.assert_array_equal, variables, filled(model))
    assert [path.name for path in tmp_path.iterdir()] == [f"x{suffix}"]


def test_weights_error_lists_all_mismatches_at_once() -> None:
    arrays = export_arrays(net(), SHAPE, filled(net()), naming="torchvision")
    arrays["layer1.0.conv_1.weight"] = arrays.pop("layer1.0.conv1.weight")
    arrays["bn1.running_var"] = np.ones(9, np.float32)
    arrays["bn1.weight"] = np.ones(8, np.int32)
    arrays["bn1.bias"][3] = np.nan
    arrays["layer2.0.bn1.num_batches_tracked"] = np.array(7)
    with pytest.raises(WeightsError) as caught:
        load_weights(arrays, net(), SHAPE)
    error = caught.value
    assert error.missing == ("params/stage1_block1/conv1/kernel",)
    assert error.unexpected == ("layer1.0.conv_1.weight",)
    assert set(error.mismatched) == {"batch_stats/norm1/var", "params/norm1/scale", "params/norm1/bias"}
    for told in (
        "1 variable is not in the file: params/stage1_block1/conv1/kernel (layer1.0.conv1.weight; "
        "is it 'layer1.0.conv_1.weight'?)",
        "1 name is not in the model: layer1.0.conv_1.weight",
        "bn1.running_var is 9 in the file and 8 in the model",
        "bn1.weight has dtype int32, but weights must be floating-point",
        "1 of its 8 values are not finite",
    ):
        assert told in str(error)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (
            net(blocks=(1, 2)),
            r"10 variables are not in the file(?s:.*)The file is probably of a network of another depth",
        ),
        (net(layers=LayerBuilder(norm="none")), "The file has batch normalization but the model has none"),
        (net(features=(8, 32)), r"16x8x3x3 in the file and 32x8x3x3 in the model"),
        (MODELS.create("vit", num_classes=4, **VIT), r"is not of the model \(ViT\): it seems to be a ResNet"),
        (MODELS.create("mlp", num_classes=4), "it seems to be a ResNet. Names for the model exist in jaxtrain"),
    ],
    ids=["depth", "normalization", "width", "family", "family without names"],
)
def test_weights_of_another_network_are_refused_with_the_difference(model: Any, told: str) -> None:
    arrays = export_arrays(net(), SHAPE, filled(net()), naming="torchvision")
    with pytest.raises(WeightsError, match=told):
        load_weights(arrays, model, SHAPE)


def test_unknown_weight_names_and_namings_are_refused() -> None:
    arrays = export_arrays(net(), SHAPE, filled(net()))
    with pytest.raises(WeightsError, match="it seems to be a network saved with the names of this package"):
        load_weights(arrays, MODELS.create("vit", num_classes=4, **VIT), SHAPE)
    with pytest.raises(WeightsError, match="its names are a, b, c and 1 more"):
        load_weights(dict.fromkeys("abcd", np.zeros(1)), net(), SHAPE)
    with pytest.raises(WeightsError, match="there is no naming='tim'; did you mean 'timm'"):
        load_weights(arrays, net(), SHAPE, naming="tim")  # type: ignore[arg-type]
    mlp = MODELS.create("mlp", num_classes=4)
    with pytest.raises(WeightsError, match=r"timm has no MLP of this kind.* set naming to 'jaxtrain'"):
        export_arrays(mlp, SHAPE, filled(mlp), naming="timm")
    prelu = net(layers=LayerBuilder(activation="prelu"))
    with pytest.raises(WeightsError, match=r"a ResNet has no params/.*use naming='jaxtrain'"):
        export_arrays(prelu, SHAPE, filled(prelu), naming="torchvision")
    with pytest.raises(WeightsError, match=r"logits/kernel: \(16, 4\) in the variables and \(16, 5\) in the model"):
        export_arrays(net(num_classes=5), SHAPE, filled(net()))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("x.safetensors", b"", r"is empty \(0 bytes\)"),
        ("x.npz", b"", r"is empty \(0 bytes\)"),
        ("x.safetensors", b"hello, this is no file of weights", "damaged or not a safetensors file"),
        ("x.npz", b"hello, this is no file of weights", "damaged or not an .npz file"),
        ("x.safetensors", b"\x02\0\0\0\0\0\0\0{}", "contains no arrays"),
        ("x.pth", b"x", "is a pickle file, which can run code.*safetensors.torch.save_file"),
        ("x.h5", b"x", "has the suffix '.h5'; a weight file must be .safetensors or .npz"),
        ("x", b"x", "has no suffix"),
        ("x.safetensors", None, "there is no file"),
    ],
)
def test_load_weights_refuses_files_without_weights(name: str, content: bytes | None, told: str, tmp_path: Any) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=told):
        load_weights(tmp_path / name, net(), SHAPE)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_load_weights_refuses_damaged_files(suffix: str, tmp_path: Any) -> None:
    file = tmp_path / f"x{suffix}"
    save_weights(file, net(), SHAPE, filled(net()))
    whole = file.read_bytes()
    for end in (4, 40, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:end])
        with pytest.raises(WeightsError, match="damaged or not"):
            load_weights(file, net(), SHAPE)
    directory = tmp_path / f"y{suffix}"
    directory.mkdir()
    with pytest.raises(WeightsError, match="is a directory; name one file in it"):
        load_weights(directory, net(), SHAPE)
    with pytest.raises(WeightsError, match="cannot be written"):
        save_weights(tmp_path / "none" / f"x{suffix}", net(), SHAPE, filled(net()))


def test_load_weights_refuses_npz_files_with_objects_or_one_unnamed_array(tmp_path: Any) -> None:
    np.savez(tmp_path / "x.npz", a=np.array([{}], dtype=object))
    with pytest.raises(WeightsError, match=r"damaged or not an .npz file: Object arrays cannot be loaded"):
        load_weights(tmp_path / "x.npz", net(), SHAPE)
    with (tmp_path / "x.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(WeightsError, match="is a single array without a name"):
        load_weights(tmp_path / "x.npz", net(), SHAPE)


def test_save_weights_keeps_the_old_file_until_the_new_one_is_complete(tmp_path: Any, monkeypatch: Any) -> None:
    file = tmp_path / "x.safetensors"
    save_weights(file, net(), SHAPE, filled(net()))
    before = file.read_bytes()

    def full(arrays: Any, path: Any, metadata: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(WeightsError, match=r"x.safetensors cannot be written: No space left on device"):
        save_weights(file, net(), SHAPE, filled(net()))
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_jaxtrain_weight_names_are_parameter_paths(tmp_path: Any) -> None:
    save_weights(tmp_path / "x.safetensors", net(), SHAPE, filled(net()))
    names = set(load_file(tmp_path / "x.safetensors"))
    assert {"params/stage1_block1/conv1/kernel", "batch_stats/norm1/mean"} < names
    assert not [name for name in names if not re.match(r"(params|batch_stats)/", name)]
