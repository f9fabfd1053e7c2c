"""CIFAR-10 and CIFAR-100 from their binary or pickled batches, compressed or not."""

import dataclasses
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxtrain.data.dataset import Dataset
from jaxtrain.data.source import ArraySource
from jaxtrain.data.sources.files import FileSet, FoundFiles, Search, is_file, reading
from jaxtrain.data.sources.safe_pickle import load_pickle
from jaxtrain.errors import DataError

SIZES: Mapping[str, int] = {"train": 50_000, "test": 10_000}
"""The number of images in each split; every batch file of a split holds an equal share."""

_PIXELS = 3 * 32 * 32
_CHUNK = 2**20
_ORIGIN = "www.cs.toronto.edu/~kriz/cifar.html"


def cifar10(*, directory: Path | None) -> Dataset:
    """Return CIFAR-10: 50,000 training and 10,000 test photographs, 32x32 RGB, in 10 classes (Krizhevsky 2009).

    The files are the binary batches (`data_batch_1.bin` ..., in `cifar-10-batches-bin` or directly), the pickled
    batches (`data_batch_1` ..., in `cifar-10-batches-py` or directly), each plain or as `.xz`, or the archive
    `cifar-10-binary.tar.gz` or `cifar-10-python.tar.gz`.

    Args:
      directory: the data directory; the files are in its folder `cifar10` or `cifar-10`, or in `directory` itself.

    Raises:
      DataError: the files are missing or damaged, or a pickle contains anything but arrays.

    Example:
      >>> import pathlib
      >>> import jaxtrain
      >>> try:
      ...     jaxtrain.data.cifar10(directory=pathlib.Path("/nowhere"))
      ... except jaxtrain.JaxtrainError as error:
      ...     print(str(error).partition(";")[0])
      cifar10: the data directory /nowhere does not exist
    """
    return _dataset(_CIFAR10, directory)


def cifar100(*, directory: Path | None, labels: Literal["fine", "coarse"] = "fine") -> Dataset:
    """Return CIFAR-100: 50,000 + 10,000 photographs, 32x32 RGB, in 100 classes or 20 superclasses (Krizhevsky 2009).

    The files are `train.bin` and `test.bin` (in `cifar-100-binary` or directly), the pickles `train` and `test` (in
    `cifar-100-python` or directly), each plain or as `.xz`, or the archive `cifar-100-binary.tar.gz` or
    `cifar-100-python.tar.gz`.

    Args:
      directory: the data directory; the files are in its folder `cifar100` or `cifar-100`, or in `directory` itself.
      labels: "fine" for the 100 classes, "coarse" for the 20 superclasses.

    Raises:
      DataError: the files are missing or damaged, or a pickle contains anything but arrays.

    Example:
      >>> from jaxtrain.config import DatasetSpec
      >>> print(DatasetSpec("cifar100", labels="coarse"))
      cifar100(labels='coarse')
    """
    return _dataset(_CIFAR100_COARSE if labels == "coarse" else _CIFAR100_FINE, directory)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Variant:
    """The file names and formats of one of the data sets.

    A binary record consists of `label_bytes` labels and the red, green and blue planes; the label is at index
    `label_byte`. A pickled batch is a dict with `data` uint8[N, 3072] and a list of labels under `label_key`.
    """

    name: str
    stem: str
    folders: Mapping[str, str]
    batches: Mapping[str, tuple[str, ...]]
    label_bytes: int
    label_byte: int
    label_key: str
    names_file: str
    meta_file: str
    names_key: str
    class_names: tuple[str, ...]


class _Batch(NamedTuple):
    """The bytes of a batch file, and its path for messages."""

    path: str
    content: bytes


def _dataset(variant: _Variant, directory: Path | None) -> Dataset:
    search = Search(variant.name, directory, (variant.name, variant.stem, ""), _ORIGIN)
    loose = _loose_form(variant, "binary", ".bin"), _loose_form(variant, "python", "")
    found = search.find(*loose, *_archive_forms(variant, "binary", "python"))
    return Dataset(
        name=variant.name,
        num_classes=len(variant.class_names),
        image_shape=(32, 32, 3),
        sizes=SIZES,
        class_names=_class_names(variant, found),
        read=lambda split: _read(variant, found, split),
    )


def _loose_form(variant: _Variant, form: str, suffix: str) -> FileSet:
    names = [f"{batch}{suffix}" for batches in variant.batches.values() for batch in batches]
    folder = variant.folders[form]
    files = tuple((name, f"{name}.xz", f"{folder}/{name}", f"{folder}/{name}.xz") for name in names)
    return FileSet(form, files, f"{', '.join(names[:-1])} and {names[-1]} (plain or .xz, loose or in {folder})")


def _archive_forms(variant: _Variant, *forms: str) -> Iterator[FileSet]:
    for form in forms:
        name = f"{variant.stem}-{form}.tar.gz"
        yield FileSet(form, ((name,),), name)


def _class_names(variant: _Variant, found: FoundFiles) -> tuple[str, ...]:
    """Return the class names of the meta file beside loose batches, or the known names for an archive."""
    meta = found.files[0].parent / (variant.names_file if found.form == "binary" else variant.meta_file)
    if _is_archive(found) or not is_file(meta):
        return variant.class_names
    with reading(meta):
        content = meta.read_bytes()
    if found.form == "binary":
        lines: Any = content.split()
    else:
        lines = load_pickle(content, meta).get(variant.names_key)
    if not isinstance(lines, list) or not all(isinstance(line, bytes | str) for line in lines):
        raise DataError(f"{meta} contains no list {variant.names_key!r} of class names; remove or replace it")
    if len(lines) != len(variant.class_names):
        raise DataError(f"{meta} names {len(lines)} classes instead of {len(variant.class_names)}; replace it")
    return tuple(line.decode("utf-8", "replace") if isinstance(line, bytes) else line for line in lines)


def _is_archive(found: FoundFiles) -> bool:
    return found.files[0].name.endswith(".tar.gz")


def _read(variant: _Variant, found: FoundFiles, split: str) -> ArraySource:
    names = variant.batches[split]
    if _is_archive(found):
        suffix = ".bin" if found.form == "binary" else ""
        batches = _read_members(found.files[0], [f"{name}{suffix}" for name in names])
    else:
        first = 0 if split == "train" else len(variant.batches["train"])
        with ThreadPoolExecutor() as pool:  # xz takes over a second per batch and releases the GIL
            batches = list(pool.map(_read_batch, found.files[first : first + len(names)]))
    size = SIZES[split]
    share = size // len(names)
    images, labels = np.empty((size, 32, 32, 3), np.uint8), np.empty(size, np.int32)
    for start, batch in zip(range(0, size, share), batches, strict=True):
        planes, batch_labels = (_parse_binary if found.form == "binary" else _parse_pickle)(variant, batch, share)
        images[start : start + share] = planes.reshape(share, 3, 32, 32).transpose(0, 2, 3, 1)
        labels[start : start + share] = batch_labels
    return ArraySource(images, labels)


def _read_batch(path: Path) -> _Batch:
    with reading(path, lzma.LZMAError):
        content = path.read_bytes()
        return _Batch(str(path), lzma.decompress(content) if path.suffix == ".xz" else content)


def _read_members(archive: Path, names: list[str]) -> list[_Batch]:
    """Read the regular files of the archive with these names, in any folder; nothing is written to disk."""
    contents: dict[str, bytes] = {}
    with reading(archive, tarfile.TarError, zlib.error), gzip.open(archive) as stream:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                name = member.name.rpartition("/")[2]
                if name in names and name not in contents and member.isreg():
                    file = tar.extractfile(member)
                    contents[name] = file.read() if file else b""
        while stream.read(_CHUNK):  # reads to the end, where the checksum of the archive is verified
            pass
    missing = [name for name in names if name not in contents]
    if missing:
        raise DataError(f"{archive} does not contain {', '.join(missing)}; download it again from {_ORIGIN}")
    return [_Batch(f"{archive}/{name}", contents[name]) for name in names]


def _parse_binary(variant: _Variant, batch: _Batch, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the planes uint8[count, 3072] and the labels uint8[count] of a binary batch."""
    record = variant.label_bytes + _PIXELS
    if len(batch.content) != count * record:
        raise DataError(
            f"{batch.path} holds {len(batch.content):,} bytes, not {count:,} records of {record:,}; "
            f"download it again from {_ORIGIN}"
        )
    records = np.frombuffer(batch.content, np.uint8).reshape(count, record)
    return records[:, variant.label_bytes :], records[:, variant.label_byte]


def _parse_pickle(variant: _Variant, batch: _Batch, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the planes uint8[count, 3072] and the labels int32[count] of a pickled batch."""
    content = load_pickle(batch.content, batch.path)
    planes, labels = content.get("data"), content.get(variant.label_key)
    if not isinstance(planes, np.ndarray) or planes.dtype != np.uint8 or planes.shape != (count, _PIXELS):
        raise DataError(f"{batch.path} contains no uint8 array 'data' of shape {(count, _PIXELS)}; replace it")
    if isinstance(labels, np.ndarray):
        labels = labels.tolist()
    if not isinstance(labels, list) or len(labels) != count or not all(type(label) is int for label in labels):
        raise DataError(f"{batch.path} contains no list {variant.label_key!r} of {count:,} integers; replace it")
    with reading(batch.path, OverflowError):
        return planes, np.asarray(labels, np.int32)


_CIFAR10 = _Variant(
    name="cifar10",
    stem="cifar-10",
    folders={"binary": "cifar-10-batches-bin", "python": "cifar-10-batches-py"},
    batches={"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)},
    label_bytes=1,
    label_byte=0,
    label_key="labels",
    names_file="batches.meta.txt",
    meta_file="batches.meta",
    names_key="label_names",
    class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
)
_FINE = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle "
    "caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant "
    "flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man "
    "maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree "
    "plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper "
    "snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train "
    "trout tulip turtle wardrobe whale willow_tree wolf woman worm"
)
_COARSE = (
    "aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices "
    "household_furniture insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes "
    "large_omnivores_and_herbivores medium_mammals non-insect_invertebrates people reptiles small_mammals trees "
    "vehicles_1 vehicles_2"
)
_CIFAR100_FINE = _Variant(
    name="cifar100",
    stem="cifar-100",
    folders={"binary": "cifar-100-binary", "python": "cifar-100-python"},
    batches={"train": ("train",), "test": ("test",)},
    label_bytes=2,
    label_byte=1,
    label_key="fine_labels",
    names_file="fine_label_names.txt",
    meta_file="meta",
    names_key="fine_label_names",
    class_names=tuple(_FINE.split()),
)
_CIFAR100_COARSE = dataclasses.replace(
    _CIFAR100_FINE,
    label_byte=0,
    label_key="coarse_labels",
    names_file="coarse_label_names.txt",
    names_key="coarse_label_names",
    class_names=tuple(_COARSE.split()),
)
