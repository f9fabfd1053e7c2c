import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets
from PIL import Image

from jaxtrain.augment.decode.window import CropWindow
from jaxtrain.data.sources.tfds import tfds
from jaxtrain.errors import DataError

features = tensorflow_datasets.features
CLASSES = ["ant", "bee", "cat"]


def picture(index: int, height: int = 6, width: int = 8) -> np.ndarray:
    return np.random.RandomState(index).randint(0, 256, (height, width, 3)).astype(np.uint8)


def png(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def prepare(
    folder: Path,
    name: str,
    image: Any,
    store: Callable[[int], Any],
    splits: dict[str, int],
    file_format: str = "array_record",
    **more: Any,
) -> None:
    """Write a data set as TensorFlow Datasets does; `store(index)` is the image of an example."""
    described = {"image": image, "label": features.ClassLabel(names=CLASSES), **more}

    class Builder(tensorflow_datasets.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tensorflow_datasets.core.Version("1.0.0")

        def _info(self) -> Any:
            return tensorflow_datasets.core.DatasetInfo(builder=self, features=features.FeaturesDict(described))

        def _split_generators(self, dl_manager: Any) -> Any:
            return {split: self._generate_examples(split, count) for split, count in splits.items()}

        def _generate_examples(self, split: str, count: int) -> Iterator[Any]:
            for index in range(count):
                yield f"{split}{index}", {"image": store(index), "label": index % 3} | dict.fromkeys(more, index)

    Builder.name = name
    Builder(data_dir=folder, file_format=file_format).download_and_prepare(file_format=file_format)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a data directory with small data sets, without TensorFlow."""
    folder = tmp_path_factory.mktemp("data")
    sizes = {"train": 7, "test": 3, "validation": 2}
    image = features.Image(shape=(6, 8, 3))
    prepare(
        folder / "tensorflow_datasets",
        "plain",
        image,
        lambda i: png(picture(i)),
        sizes,
        extra=features.Scalar(np.int64),
    )
    varied = features.Image()
    prepare(folder, "varied", varied, lambda i: png(picture(i, 6 + i, 8)), {"train": 4, "validation": 2})
    prepare(folder, "lying", image, lambda i: png(picture(i, 6 + i // 2, 8)), {"train": 4})
    prepare(folder, "raw", features.Tensor(shape=(6, 8), dtype=np.uint8), lambda i: picture(i)[..., 0], {"train": 4})
    prepare(
        folder,
        "wide",
        features.Tensor(shape=(6, 8), dtype=np.int32),
        lambda i: picture(i)[..., 0].astype(np.int32),
        {"train": 1},
    )
    five = features.Tensor(shape=(None, 8, 5), dtype=np.uint8)
    prepare(folder, "five", five, lambda i: np.zeros((6, 8, 5), np.uint8), {"train": 1})
    prepare(folder, "words", features.Text(), lambda i: "text", {"train": 1})
    nested = features.FeaturesDict({"number": features.Scalar(np.int64)})
    prepare(folder, "nested", nested, lambda i: {"number": i}, {"train": 1})
    prepare(folder, "only_test", image, lambda i: png(picture(i)), {"test": 1})
    prepare(folder, "bad_image", image, lambda i: b"no image", {"train": 1})
    return folder


def content_set(images: np.ndarray, labels: np.ndarray) -> set[tuple[bytes, int]]:
    return {(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}


@pytest.mark.slow
def test_tfds_reads_encoded_images_of_one_shape(prepared: Path):
    data = tfds(builder="plain", directory=prepared)
    assert (data.image_shape, data.num_classes, data.class_names) == ((6, 8, 3), 3, tuple(CLASSES))
    assert data.sizes == {"train": 7, "test": 3}
    for split, count in data.sizes.items():
        source = data.load(split)  # TensorFlow Datasets shuffles the examples in preparation
        assert content_set(*vars(source).values()) == {(picture(i).tobytes(), i % 3) for i in range(count)}
        assert source.labels.dtype == np.int32


def test_tfds_equals_the_reader_of_tensorflow_datasets(prepared: Path):
    source = tfds(builder="plain", directory=prepared).load("train")
    folder = prepared / "tensorflow_datasets" / "plain" / "1.0.0"
    theirs = tensorflow_datasets.builder_from_directory(folder).as_data_source(split="train")
    for index, example in enumerate(theirs):
        np.testing.assert_array_equal(source.images[index], example["image"])
        assert source.labels[index] == example["label"]


@pytest.mark.parametrize("builder", ["plain:1.0.0", "plain:1.*.*", "plain"])
def test_tfds_accepts_version_patterns(prepared: Path, builder: str):
    assert tfds(builder=builder, directory=prepared / "tensorflow_datasets").sizes["train"] == 7


def test_tfds_needs_a_size_for_images_of_several_shapes(prepared: Path):
    with pytest.raises(DataError, match=r"varied: the images of 'image' differ in shape; set data\.dataset\.size"):
        tfds(builder="varied", directory=prepared)
    data = tfds(builder="varied", directory=prepared, size=(4, 5))
    assert (data.image_shape, data.sizes) == ((4, 5, 3), {"train": 4, "test": 2})  # validation is used as test
    assert data.load("test").images.shape == (2, 4, 5, 3)


def test_tfds_reads_images_stored_as_arrays(prepared: Path):
    data = tfds(builder="raw", directory=prepared)
    assert data.image_shape == (6, 8, 1)
    source = data.load("train")
    assert content_set(source.images, source.labels) == {(picture(i)[..., 0].tobytes(), i % 3) for i in range(4)}
    scaled = tfds(builder="raw", directory=prepared, size=(3, 4)).load("train")
    assert scaled.images.shape == (4, 3, 4, 1)
    assert abs(scaled.images.mean() - source.images.mean()) < 10


def test_tfds_resizes_images_of_one_shape(prepared: Path):
    assert tfds(builder="plain", directory=prepared, size=(70, 80)).load("train").images.shape == (7, 70, 80, 3)


@pytest.mark.parametrize(
    ("builder", "options", "message"),
    [
        ("plain", {"image_key": "imgae"}, r"no feature 'imgae'; set data\.dataset\.image_key .*did you mean 'image'"),
        (
            "plain",
            {"label_key": "target"},
            r"no feature 'target'; set data\.dataset\.label_key .*Known: extra, image, label",
        ),
        ("plain", {"image_key": "extra"}, r"feature 'extra' is int64 of shape \(\); images must be uint8"),
        ("plain", {"label_key": "extra"}, "feature 'extra' is a Scalar; labels must be a ClassLabel"),
        ("wide", {}, r"feature 'image' is int32 of shape \(6, 8\); images must be uint8"),
        ("words", {}, r"feature 'image' is object of shape \(\); images must be uint8"),
        ("five", {}, "differ in shape"),
        ("five", {"size": (3, 3)}, "has 5 channels; only 1, 3 or 4 can be decoded and scaled"),
        ("nested", {}, "feature 'image' is a FeaturesDict, not an Image or a Tensor"),
        ("only_test", {}, "no split 'train' to train on, only test"),
        ("plain:2.0.0", {}, r"plain:2\.0\.0 is not prepared in .*, only .*plain.1\.0\.0; prepare it with"),
        ("plain/config", {}, "plain/config is not prepared in"),
        (
            "mnist",
            {},
            r"mnist is not prepared in .*tensorflow_datasets or .*; prepare it with scripts/prepare_tfds\.py",
        ),
        ("a b", {}, r"builder='a b' in .*: Parsing builder name string a b failed"),
        ("plain/x=1", {}, "is not prepared"),
        ("somebody:plain", {}, "is not prepared"),
    ],
)
def test_tfds_refuses_unsuitable_features_and_builders(
    prepared: Path, builder: str, options: dict[str, Any], message: str
):
    with pytest.raises(DataError, match=message):
        tfds(builder=builder, directory=prepared, **options)


def test_tfds_names_images_that_contradict_the_description(prepared: Path):
    with pytest.raises(
        DataError, match=r"lying, .* example \d, is of shape \(7, 8, 3\), not \(6, 8, 3\); set data\.dataset"
    ):
        tfds(builder="lying", directory=prepared).load("train")
    assert tfds(builder="lying", directory=prepared, size=(6, 8)).load("train").images.shape == (4, 6, 8, 3)
    with pytest.raises(DataError, match=r"bad_image, split train in .* example 0, cannot be decoded"):
        tfds(builder="bad_image", directory=prepared).load("train")


@pytest.mark.parametrize(("file_format", "reason"), [("parquet", "loses examples"), ("tfrecord", "no random access")])
def test_tfds_refuses_file_formats_other_than_array_record(
    prepared: Path, tmp_path: Path, file_format: str, reason: str
):
    folder = tmp_path / "plain" / "1.0.0"
    shutil.copytree(prepared / "tensorflow_datasets" / "plain" / "1.0.0", folder)
    info = json.loads((folder / "dataset_info.json").read_text())
    assert info["fileFormat"] == "array_record"
    (folder / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": file_format}))
    with pytest.raises(DataError, match=f"is stored as {file_format}: .*{reason}.*file_format='array_record'"):
        tfds(builder="plain", directory=tmp_path)


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped"])
def test_tfds_names_damaged_records(prepared: Path, tmp_path: Path, damage: str):
    shutil.copytree(prepared / "tensorflow_datasets" / "plain", tmp_path / "plain")
    (path,) = (tmp_path / "plain").glob("*/*train*")
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    else:
        content[len(content) // 2] ^= 0xFF
        path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "flipped": content}[damage])
    with pytest.raises(DataError, match=r"tfds plain, split train in .*plain"):
        tfds(builder="plain", directory=tmp_path).load("train")


@pytest.mark.parametrize(
    ("name", "content"), [("features.json", "{"), ("dataset_info.json", "{"), ("dataset_info.json", "")]
)
def test_tfds_names_a_damaged_description(prepared: Path, tmp_path: Path, name: str, content: str):
    shutil.copytree(prepared / "tensorflow_datasets" / "plain", tmp_path / "plain")
    (tmp_path / "plain" / "1.0.0" / name).write_text(content)
    with pytest.raises(DataError, match=f"builder='plain' in {tmp_path}: "):
        tfds(builder="plain", directory=tmp_path)


def test_tfds_searches_the_default_directory_of_tensorflow_datasets(prepared: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(prepared))
    assert tfds(builder="raw", directory=None).sizes == {"train": 4}
    with pytest.raises(DataError, match="nothing is not prepared in"):
        tfds(builder="nothing", directory=None)


def test_tfds_names_a_missing_directory(tmp_path: Path):
    with pytest.raises(DataError, match="nowhere does not exist"):
        tfds(builder="plain", directory=tmp_path / "nowhere")


def test_tfds_imports_neither_tensorflow_nor_jax(prepared: Path, run_python: Callable[..., Any]):
    program = (
        "import sys, pathlib; from jaxtrain.data.sources.tfds import tfds; "
        f"tfds(builder='plain', directory=pathlib.Path({str(prepared)!r})).load('train'); "
        "print({'tensorflow', 'jax'} & set(sys.modules))"
    )
    done = run_python("-c", program)
    assert (done.stdout.strip(), done.stderr) == ("set()", "")


def stream_example(folder: Path, builder: str, index: int, **options: Any) -> Any:
    source = tfds(builder=builder, directory=folder, **options).stream("train")
    return source.example(index, lambda size: CropWindow(0, 0, *size, size))


def test_tfds_streams_encoded_images_at_their_original_size(prepared: Path):
    found = stream_example(prepared, "varied", 3, size=(4, 4))
    order = [tuple(len(stream_example(prepared, "varied", i, size=(4, 4)).image) for i in range(4))]
    assert sorted(order[0]) == [6, 7, 8, 9]
    np.testing.assert_array_equal(found.image, picture(len(found.image) - 6, len(found.image), 8))
    assert found.label == (len(found.image) - 6) % 3
    with pytest.raises(DataError, match="example 0, cannot be decoded"):
        stream_example(prepared, "bad_image", 0)


def test_tfds_streams_arrays_from_memory(prepared: Path):
    held = tfds(builder="raw", directory=prepared).load("train")
    np.testing.assert_array_equal(stream_example(prepared, "raw", 2).image, held.images[2])


@pytest.mark.parametrize("options", [{}, {"size": (3, 4)}])
def test_tfds_streams_arrays_from_their_records(prepared: Path, options: dict[str, Any]):
    data = tfds(builder="raw", directory=prepared, **options)
    held, source = data.load("train"), data.store("train").take(np.array([2, 0, 3, 1]))
    out = np.empty((3, *data.image_shape), np.uint8)
    assert source.read(np.array([3, 0, 2]), out).tolist() == held.labels[[1, 2, 3]].tolist()
    np.testing.assert_array_equal(out, held.images[[1, 2, 3]])
    assert source.read_labels(np.arange(4)).tolist() == held.labels[[2, 0, 3, 1]].tolist()
