"""`jaxtrain weights`: the contents of a weight file, and its match with a model."""

from pathlib import Path

import numpy as np
import pytest

from jaxtrain.cli.main import main
from jaxtrain.models import MODELS
from jaxtrain.models.weights import save_weights
from jaxtrain.models.weights.tracing import trace_model


@pytest.fixture
def file(tmp_path: Path) -> str:
    from flax import traverse_util

    model = MODELS.create("cifar_resnet", num_classes=10, depth=8)
    flat = {path: np.ones(x.shape, np.float32) for path, x in trace_model(model, (32, 32, 3)).shapes.items()}
    variables = traverse_util.unflatten_dict(flat, sep="/")
    save_weights(tmp_path / "x.safetensors", model, (32, 32, 3), variables, naming="torchvision")
    return str(tmp_path / "x.safetensors")


def test_weights_lists_the_arrays_of_a_file(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", file]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines if line.startswith("conv1.weight")] == [
        ["conv1.weight", "float32", "16x3x3x3"]
    ]
    assert lines[-1].endswith("arrays; it seems to be a ResNet")


def test_weights_matches_a_file_with_a_model(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", file, "--model", "cifar_resnet(depth=8)"]) == 0
    out = capsys.readouterr().out
    assert "params/stage2_block1/conv1/kernel" in out
    assert "layer2.0.conv1.weight" in out
    assert "with the names of torchvision" in out
    gray = ["weights", file, "--model", "cifar_resnet(depth=8)", "--input", "28x28x1", "--classes", "3"]
    assert main(gray) == 2
    assert 'set head="new"' in capsys.readouterr().err
    assert main([*gray, "--adapt"]) == 0
    assert "new: params/logits/bias, params/logits/kernel" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--model", "cifar_resnet(depth=8)", "--input", "32x32"], "'32x32' is not the shape of an image"),
        (["--model", "cifar_resnet(depth=8)", "--input", "0x32x3"], "'0x32x3' is not the shape of an image"),
        (["--model", "cifar_resnet(depth=8)", "--classes", "0"], "--classes: 0 is out of range"),
        (["--model", "resnet51"], "unknown model 'resnet51'"),
        (["--model", "lenet5"], r"is not of the model \(LeNet5\)"),
        (["--model", "vgg11", "--input", "8x8x3"], "cannot take images of 8x8x3: .*at least 32x32"),
    ],
)
def test_weights_refuses_bad_arguments_with_a_message(
    arguments: list[str], told: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    assert main(["weights", file, *arguments]) == 2
    assert re.search(told, capsys.readouterr().err)
