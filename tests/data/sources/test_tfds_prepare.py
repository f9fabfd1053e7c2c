import gzip
import hashlib
import importlib.util
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets
from PIL import Image

from jaxtrain.data.sources import idx
from jaxtrain.data.sources.tfds import tfds
from jaxtrain.errors import DataError
from scripts.prepare_tfds import prepare

SCRIPT = Path(__file__).parents[3] / "scripts" / "prepare_tfds.py"
ORIGINALS = {"first.gz": gzip.compress(bytes([10, 20, 30])), "second.gz": gzip.compress(bytes([1, 0, 1]))}
HAS_TENSORFLOW = importlib.util.find_spec("tensorflow") is not None


class TinyOriginals(tensorflow_datasets.core.GeneratorBasedBuilder):
    """A data set with two original files, gray levels and labels; it yields PNG files, which needs no TensorFlow."""

    VERSION = tensorflow_datasets.core.Version("1.0.0")
    url_infos = {  # noqa: RUF012 - stands for the records of TensorFlow Datasets
        f"https://example.invalid/{name}": tensorflow_datasets.core.download.checksums.UrlInfo(
            size=len(content), checksum=hashlib.sha256(content).hexdigest(), filename=name
        )
        for name, content in ORIGINALS.items()
    }

    def _info(self) -> Any:
        features = tensorflow_datasets.features
        described = {"image": features.Image(shape=(2, 2, 1)), "label": features.ClassLabel(num_classes=2)}
        return tensorflow_datasets.core.DatasetInfo(
            builder=self, features=features.FeaturesDict(described), homepage="https://example.invalid/home"
        )

    def _split_generators(self, dl_manager: Any) -> Any:
        paths = dl_manager.download([f"https://example.invalid/{name}" for name in ORIGINALS])
        return {"train": self._generate_examples(*paths)}

    def _generate_examples(self, levels: Any, labels: Any) -> Iterator[Any]:
        contents = (gzip.decompress(path.read_bytes()) for path in (levels, labels))
        for index, (level, label) in enumerate(zip(*contents, strict=True)):
            stream = io.BytesIO()
            Image.new("L", (2, 2), level).save(stream, "PNG")
            yield index, {"image": stream.getvalue(), "label": label}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the original files and pretend that TensorFlow is installed; this data set does not need it."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: find_spec("os" if name == "tensorflow" else name, *rest)
    )
    folder = tmp_path / "files"
    folder.mkdir()
    for name, content in ORIGINALS.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("place", ["", "tiny_originals"])
def test_prepare_tfds_writes_a_dataset_that_tfds_reads(files: Path, tmp_path: Path, place: str):
    if place:
        (files / place).mkdir()
        for name in ORIGINALS:
            (files / name).rename(files / place / name)
    target = tmp_path / "data" / "tensorflow_datasets"
    folder = prepare("tiny_originals", files, target)
    assert folder == target / "tiny_originals" / "1.0.0"
    source = tfds(builder="tiny_originals", directory=tmp_path / "data").load("train")
    assert sorted(zip(source.images[:, 0, 0, 0].tolist(), source.labels.tolist(), strict=True)) == [
        (10, 1), (20, 0), (30, 1),
    ]  # fmt: skip
    # No other file remains, no download either, and a second call does nothing.
    assert [path.name for path in target.iterdir()] == ["tiny_originals"]
    assert prepare("tiny_originals", tmp_path / "not needed any more", target) == folder


def test_prepare_tfds_checks_the_original_files_first(files: Path, tmp_path: Path):
    target = tmp_path / "target"
    with pytest.raises(DataError, match=r"nowhere is not a folder; it must hold first\.gz, second\.gz"):
        prepare("tiny_originals", tmp_path / "nowhere", target)
    (files / "second.gz").write_bytes(b"another file")
    with pytest.raises(DataError, match=r"second\.gz is not the original file: its sha256 is .*example\.invalid/home"):
        prepare("tiny_originals", files, target)
    (files / "second.gz").unlink()
    with pytest.raises(DataError, match=r"found .*first\.gz, but not second\.gz; download what is missing from https"):
        prepare("tiny_originals", files, target)
    assert not target.exists()


def test_prepare_tfds_refuses_unknown_datasets(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(DataError, match="knows no data set 'tiny_orginals'"):
        prepare("tiny_orginals", files, tmp_path / "target")
    monkeypatch.setattr(TinyOriginals, "url_infos", None)
    with pytest.raises(DataError, match="no names of original files on record for tiny_originals"):
        prepare("tiny_originals", files, tmp_path / "target")
    with pytest.raises(DataError, match=r"cannot be prepared in .*: Parsing builder name string"):
        prepare("a b", files, tmp_path / "target")


def test_prepare_tfds_refuses_an_existing_dataset_of_another_format(files: Path, tmp_path: Path):
    folder = prepare("tiny_originals", files, tmp_path / "target")
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    with pytest.raises(DataError, match=r"cannot be prepared in .*target"):
        prepare("tiny_originals", files, tmp_path / "target")


@pytest.mark.skipif(HAS_TENSORFLOW, reason="TensorFlow is installed")
def test_prepare_tfds_without_tensorflow_asks_to_install_it(tmp_path: Path, run_python: Callable[..., Any]):
    with pytest.raises(DataError, match=r"install jaxtrain\[prepare\]"):
        prepare("mnist", tmp_path, tmp_path)
    done = run_python(str(SCRIPT), "mnist", "--files", str(tmp_path), "--directory", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: preparing a data set takes TensorFlow")


def test_the_prepare_tfds_script_has_a_help_text(run_python: Callable[..., Any]):
    done = run_python(str(SCRIPT), "--help")
    assert "--files" in done.stdout
    assert "--directory" in done.stdout


@pytest.mark.skipif(not HAS_TENSORFLOW, reason="preparing MNIST takes TensorFlow, the `prepare` extra")
@pytest.mark.filterwarnings("ignore")  # TensorFlow's own warnings
def test_prepare_tfds_prepares_the_real_mnist(real_data: Callable[[str], Path], tmp_path: Path):
    prepare("mnist", real_data("mnist"), tmp_path)
    ours, theirs = idx.mnist(directory=real_data("mnist")), tfds(builder="mnist", directory=tmp_path)
    assert (theirs.sizes, theirs.image_shape, theirs.class_names) == (ours.sizes, ours.image_shape, ours.class_names)
    for split in ours.sizes:
        # TensorFlow Datasets shuffles the examples in preparation.
        contents = []
        for data in (ours, theirs):
            source = data.load(split)
            rows = np.c_[source.images.reshape(len(source), -1), source.labels.astype(np.uint8)]
            contents.append(sorted(row.tobytes() for row in rows))
        assert contents[0] == contents[1]
