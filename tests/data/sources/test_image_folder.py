import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxtrain.data.sources.image_folder import image_folder
from jaxtrain.errors import DataError


def save(path: Path, color: tuple[int, int, int], size: tuple[int, int] = (6, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write two classes; the color identifies class, split and image."""
    for split, value in (("train", 10), ("val", 200)):
        save(tmp_path / split / "cat" / "2.png", (value, 2, 0))
        save(tmp_path / split / "cat" / "1.bmp", (value, 1, 0), (4, 9))
        save(tmp_path / split / "ant" / "x.PNG", (value, 0, 1))
    return tmp_path


def load(folder: Path, **options: Any) -> Any:
    return image_folder(directory=folder, size=(3, 3), **options)


def test_image_folder_sorts_classes_and_files_by_name(folder: Path):
    data = load(folder)
    assert data.class_names == ("ant", "cat")
    assert (data.image_shape, data.num_classes, data.sizes) == ((3, 3, 3), 2, {"train": 3, "test": 3})
    for split, value in (("train", 10), ("test", 200)):
        source = data.load(split)
        assert source.images.dtype == np.uint8
        assert source.images[:, 1, 2].tolist() == [[value, 0, 1], [value, 1, 0], [value, 2, 0]]
        assert (source.labels.tolist(), source.labels.dtype) == ([0, 1, 1], np.int32)


def test_image_folder_reads_all_image_suffixes_and_ignores_other_files(tmp_path: Path):
    for number, suffix in enumerate(["jpg", "jpeg", "png", "bmp", "webp", "gif", "ppm", "JPG"]):
        save(tmp_path / "train" / "a" / f"{number}.{suffix}", (0, 0, 0))
    for name in ("readme.txt", ".hidden.png", "._0.jpg", "png"):
        (tmp_path / "train" / "a" / name).write_text("no image")
    (tmp_path / "train" / ".cache").mkdir()
    (tmp_path / "train" / "notes.md").touch()
    data = load(tmp_path, test=None)
    assert (data.sizes, data.class_names) == ({"train": 8}, ("a",))
    assert data.load("train").images.max() == 0


def test_image_folder_options_select_subdirectory_splits_size_and_channels(folder: Path, tmp_path: Path):
    outer = tmp_path.parent
    data = image_folder(directory=outer, subdirectory=folder.name, size=(2, 5), train="val", test="train", channels=1)
    assert data.image_shape == (2, 5, 1)
    assert data.load("train").images.shape == (3, 2, 5, 1)
    assert data.load("train").images[0, 0, 0, 0] == round(0.299 * 200 + 0.114)


def test_image_folder_describes_a_dataset_without_opening_images(folder: Path):
    for path in folder.rglob("*.*"):
        path.write_bytes(b"no image")
    data = load(folder)
    assert data.sizes == {"train": 3, "test": 3}
    with pytest.raises(DataError, match=r"train.ant.x\.PNG cannot be decoded"):
        data.load("train")


def test_image_folder_names_a_truncated_image(folder: Path):
    path = folder / "val" / "cat" / "2.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"val.cat.2\.png cannot be decoded"):
        load(folder).load("test")


def test_image_folder_names_missing_folders(folder: Path):
    with pytest.raises(DataError, match=r"JAXTRAIN_DATA.*train.CLASS.\*\.jpg"):
        image_folder(directory=None)
    with pytest.raises(DataError, match=r"no folder .*trian; set data\.dataset\.train .*did you mean 'train'"):
        load(folder, train="trian")
    with pytest.raises(DataError, match=r"no folder .*test; set data\.dataset\.test .*test=None .* Known: train, val"):
        load(folder, test="test")
    with pytest.raises(DataError, match=r"no folder .*nowhere.train.*Known: none"):
        load(folder, subdirectory="nowhere")


def test_image_folder_refuses_splits_with_different_classes(folder: Path):
    save(folder / "val" / "cats" / "1.png", (0, 0, 0))
    with pytest.raises(DataError, match=r"val.cats is .* a class that is not in the train split.*did you mean 'cat'"):
        load(folder)
    shutil.rmtree(folder / "val" / "cats")
    shutil.rmtree(folder / "val" / "ant")
    with pytest.raises(DataError, match="val has no folder 'ant'"):
        load(folder)


def test_image_folder_refuses_empty_folders(folder: Path):
    (folder / "train" / "bee").mkdir()
    (folder / "train" / "bee" / "bee.tiff").touch()
    with pytest.raises(DataError, match="bee holds no image"):
        load(folder)
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no folders"):
        load(folder, train="empty")


def test_image_folder_follows_links_and_names_link_loops(folder: Path):
    (folder / "train" / "dog").symlink_to(folder / "train" / "cat")
    (folder / "val" / "dog").symlink_to(folder / "val" / "cat")
    assert load(folder).sizes == {"train": 5, "test": 5}
    (folder / "train" / "loop").symlink_to("loop")
    with pytest.raises(DataError, match="loop cannot be read"):
        load(folder)


def test_image_folder_reads_the_real_flowers(real_data: Callable[[str], Path]):
    data = image_folder(directory=real_data("flowers5"), subdirectory="flowers5", size=(32, 32))
    assert data.class_names == ("daisy", "dandelion", "roses", "sunflowers", "tulips")
    assert data.sizes == {"train": 1000, "test": 500}
    test = data.load("test")
    assert np.bincount(test.labels).tolist() == [100] * 5
    assert test.images.std() > 40
