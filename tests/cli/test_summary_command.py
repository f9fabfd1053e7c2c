"""`jaxtrain summary`: tables, numbers and refusals."""

import json

import pytest

from jaxtrain.cli.main import main


def test_the_summary_table_fits_a_terminal_and_adds_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["summary", "resnet18"]) == 0
    output = capsys.readouterr().out
    table, _, below = output.partition("parameters: ")
    assert all(len(line) <= 120 for line in table.splitlines())
    rows = {line.split()[0]: line.split() for line in table.splitlines() if line.strip()}
    row = ["conv1", "conv", "7x7/2", "pad", "3,", "BN,", "relu", "112x112x64", "9,408", "128", "118.0M", "802,816"]
    assert rows["conv1"] == [*row, "3.1", "MiB", "7/2"]
    assert rows["max_pool"] == [
        "max_pool",
        "max",
        "pool",
        "3x3/2",
        "pad",
        "1",
        "56x56x64",
        "200,704",
        *["784.0", "KiB", "11/4"],
    ]
    assert rows["logits"][-1] == "all"
    assert rows["total"][1:4] == ["11,678,912", "10,600", "1.8G"]
    assert below.startswith("11,689,512 trained (44.6 MiB); 9,600 values of statistics\n")
    assert "multiply-adds: 1,814,073,344 for one image" in below


@pytest.mark.slow
def test_summary_json_contains_every_layer(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["summary", "cifar_resnet", "depth=8", "--input", "16x24x1", "--classes", "7", "--json"]
    records = []
    for options in ([], ["--all"], ["--depth", "1"]):
        assert main([*arguments, *options]) == 0
        records.append(json.loads(capsys.readouterr().out))
    folded, every, blocks = records
    assert folded["input"] == [16, 24, 1]
    assert folded["layers"][0]["shape"] == [16, 24, 1]
    assert folded["layers"][-1]["shape"] == [7]
    assert len(blocks["layers"]) < len(folded["layers"]) < len(every["layers"])
    for record in records:
        assert sum(x["weights"] + x["biases"] for x in record["layers"]) == record["parameters"]
        assert sum(x["multiply_adds"] for x in record["layers"]) == record["multiply_adds"]
    assert {x["name"]: x["field"] for x in every["layers"]}["norm1"] == {
        "size": [3, 3],
        "stride": [1, 1],
        "whole": False,
    }


@pytest.mark.slow
def test_summary_names_the_auxiliary_heads_of_training(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "googlenet", "--depth", "1"]) == 0
    assert "auxiliary_4a (3,188,840), auxiliary_4d (3,190,888); --train shows them" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["resnet51"], "did you mean 'resnet56' or 'resnet50'"),
        (["resnet", "dept=34"], "did you mean 'depth'"),
        (["resnet", "depth"], "OPTION=VALUE"),
        (["resnet(depth=35)"], "35"),
        (["vgg16", "--input", "16x16x3"], "vgg16 on 16x16x3: vgg needs images of at least 32x32"),
        (["vgg16", "--input", "224"], "--input: '224' is not the shape of an image; write HEIGHTxWIDTHxCHANNELS"),
        (["vgg16", "--input", "0x4x3"], "--input: "),
        (["vgg16", "--classes", "0"], "--classes: "),
        (["vgg16", "--depth", "0"], "it must be >= 1"),
        (["vgg16", "--depth", "1", "--all"], "cannot be combined with --all"),
        (["lenet5_1998", "--classes", "11"], "10 digits"),
    ],
)
def test_summary_refuses_bad_arguments(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", *arguments]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("command", ["summary", "compare"])
def test_the_help_of_summary_and_compare_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert f"examples:\n  jaxtrain {command}" in capsys.readouterr().out
