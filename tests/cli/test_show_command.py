"""`jaxtrain show`: the image file contains the batch, the terminal shows its numbers, bad arguments are refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxtrain.analysis.data_preview import preview_data
from jaxtrain.cli.main import main
from jaxtrain.config import dumps
from jaxtrain.reporting.contact_sheet import to_viewable_rgb
from jaxtrain.training.plan import make_plan
from tests.conftest import tiny_config
from tests.reporting.pictures import places


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a current directory with `tiny.json`."""
    (tmp_path / "tiny.json").write_text(dumps(tiny_config()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


def test_show_writes_an_image_of_the_batch_in_order(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "show-tiny.png").write_text("what was there before")
    assert main(["show", "tiny.json", "--step", "7", "--examples", "5", "seed=1", "--columns", "2"]) == 0
    with Image.open(directory / "show-tiny.png") as picture:
        sheet = np.asarray(picture)
    found = preview_data(make_plan(tiny_config(seed=1)), "train", 7, 5)
    drawn = [
        (places(sheet, left), places(sheet, right))
        for left, right in zip(to_viewable_rgb(found.before), to_viewable_rgb(found.after), strict=True)
    ]
    assert all(left and right for left, right in drawn)
    corners = [left[0] for left, _ in drawn]
    assert corners == sorted(corners)
    assert len({x for _, x in corners}) == 2
    assert all((y, x + 100) in right for (y, x), (_, right) in zip(corners, drawn, strict=True))
    output = capsys.readouterr().out
    for line in found.lines:
        assert line in output
    assert output.splitlines()[-1] == "show-tiny.png: synthetic: training batch of step 7, 5 of its 16 examples"
    total = next(line for line in output.splitlines() if "total" in line)
    assert [word for word in total.split() if word.isdecimal()] == ["80", "16", "20"]


def test_show_warns_of_an_unbalanced_dataset(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = np.array([0] * 23 + [2] * 2)
    images = np.random.default_rng(0).integers(0, 256, (25, 4, 4, 3), np.uint8)
    np.savez(directory / "data.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    arguments = ["data.dataset=npz(file='data.npz')", "data.validation=none", "--data-dir", ".", "--output", "a.jpg"]
    assert main(["show", "tiny.json", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "warning: 1 of 3 classes have no example in the training split: '1'" in lines
    assert "warning: the training split has 23 examples of '0' and 2 of '2': 11.5 times as many" in lines
    assert any(line.startswith("  by channel: mean ") for line in lines)
    with Image.open(directory / "a.jpg") as picture:
        assert picture.format == "JPEG"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--split", "tset"], "--split: the run has no split 'tset'; did you mean 'test'"),
        (["--step", "12"], "--step: the run has no step 12"),
        (["--examples", "17"], "--examples: 17 examples cannot be shown; a training batch has 16"),
        (["--examples", "0"], "--examples: 0 is out of range"),
        (["--columns", "-1"], "--columns: -1 is out of range"),
        (["--output", "no/x.png"], "--output: there is no directory 'no'"),
        (["--output", "x.txt"], "--output: 'x.txt' is not the name of an image file"),
        (["--output", "folder.png"], "--output: 'folder.png' is a directory"),
        (["--output", f"{'x' * 300}.png"], "--output: "),
        (["data.bach_size=3"], "data.bach_size: "),
    ],
)
def test_show_refuses_bad_arguments_and_writes_no_file(
    arguments: list[str], says: str, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "folder.png").mkdir()
    before = sorted(directory.rglob("*"))
    assert main(["show", "tiny.json", *arguments]) == 2
    message = capsys.readouterr().err
    assert message.startswith("jaxtrain: config error: ")
    assert len(message.splitlines()) == 1
    assert says in message
    assert sorted(directory.rglob("*")) == before
