"""A data set in a folder of numbered .npz or .npy shards, which may be larger than memory."""

import re
from pathlib import Path

from jaxtrain.annotations import PositiveInt
from jaxtrain.data.dataset import Dataset
from jaxtrain.data.sources.files import data_directory, is_directory, is_file, reading
from jaxtrain.data.sources.npy_files import check_complete, check_examples, npy_header, npz_headers
from jaxtrain.data.sources.shard_split import IMAGES, LABELS, Shard, ShardSplit
from jaxtrain.errors import DataError

_NAME = re.compile(r"(?P<split>train|test)-(?P<number>\d+)(?:-of-(?P<count>\d+))?\.(?P<kind>npz|images\.npy)")
_WANTED = (
    "train-00000.npz, train-00001.npz ... (arrays images and labels), or train-00000.images.npy and .labels.npy ..."
)
CLASSES = "classes.txt"
# More than any data set has; larger labels are probably identifiers.
_MOST_CLASSES = 1_000_000


def shards(*, directory: Path | None, subdirectory: str = "", num_classes: PositiveInt | None = None) -> Dataset:
    """Return images and labels from numbered files `train-00000.npz`, ... and, for a test split, `test-00000.npz`, ...

    Each file has the arrays `images`, uint8 of [n, H, W] or [n, H, W, C], and `labels`, integers of [n] or [n, 1]. Two
    files may replace it, `train-00000.images.npy` and `train-00000.labels.npy`. The numbers are consecutive from 0, and
    a name may end in `-of-00010`. Sizes of shards may differ. With `data.stream`, uncompressed shards are memory-mapped
    and only the requested examples are read.

    Args:
      directory: the data directory.
      subdirectory: the folder of the files under `directory`.
      num_classes: the number of classes; labels lie in [0, num_classes). None for the number of lines of `classes.txt`,
        which has one name per line. Without that file, all training labels are read, and it is the largest plus one.

    Raises:
      DataError: files are missing, damaged, truncated, or do not match each other, according to their headers.

    Example:
      >>> import pathlib, tempfile
      >>> import numpy as np
      >>> import jaxtrain
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     for number in range(2):
      ...         np.savez(f"{folder}/train-0000{number}.npz", images=np.zeros((3, 8, 8), np.uint8), labels=[0, 1, 2])
      ...     dataset = jaxtrain.data.shards(directory=pathlib.Path(folder))
      >>> dict(dataset.sizes)
      {'train': 6}
    """
    root = data_directory("shards", directory, _WANTED) / subdirectory
    if not is_directory(root):
        raise DataError(f"shards: there is no folder {root}; set data.dataset.subdirectory to the folder of the files")
    files = _find(root)
    splits = {split: ShardSplit(tuple(_read_shard(path) for path in paths)) for split, paths in files.items()}
    image_shape = splits["train"].shards[0].image_shape
    for split in splits.values():
        for shard in split.shards:
            if shard.image_shape != image_shape:
                raise DataError(
                    f"{shard.path}: images of shape {shard.image_shape}, but those of {splits['train'].shards[0].path} "
                    f"are of shape {image_shape}; all shards must have images of the same shape"
                )
    names = _class_names(root)
    classes = num_classes or len(names) or _count_classes(splits["train"])
    if names and len(names) != classes:
        raise DataError(f"{root / CLASSES} names {len(names)} classes, but data.dataset.num_classes is {classes}")
    return Dataset(
        name=f"shards {root}",
        num_classes=classes,
        image_shape=image_shape,
        sizes={name: len(split) for name, split in splits.items()},
        class_names=names or tuple(map(str, range(classes))),
        read=lambda split: splits[split].read_all(),
        stored=lambda split: splits[split].open_stored(),
    )


def _find(root: Path) -> dict[str, list[Path]]:
    """Return the files of each split in order, "train" first; raise `DataError` for missing or duplicate numbers."""
    with reading(root):
        names = sorted(path.name for path in root.iterdir())
    found: dict[str, dict[int, Path]] = {"train": {}, "test": {}}
    counts: dict[str, int] = {}
    for match in filter(None, map(_NAME.fullmatch, names)):
        split, number = match["split"], int(match["number"])
        if number in found[split]:
            raise DataError(f"{root / match[0]} and {found[split][number].name} are both shard {number}; remove one")
        found[split][number] = root / match[0]
        counts[split] = max(counts.get(split, 0), number + 1, int(match["count"] or 0))
    if not found["train"]:
        raise DataError(f"shards: no training shards in {root}; expected {_WANTED}")
    for split, count in counts.items():
        missing = [number for number in range(count) if number not in found[split]]
        if missing:
            near = next(iter(found[split].values()))
            raise DataError(
                f"{root}: the {split} split lacks shard {missing[0]}, and {len(missing) - 1} more of {count} "
                f"(with names like {near.name}); add the missing files"
            )
    return {split: [paths[number] for number in sorted(paths)] for split, paths in found.items() if paths}


def _read_shard(path: Path) -> Shard:
    """Read the headers of a shard and check that its arrays are valid images and labels."""
    if path.suffix == ".npz":
        headers = npz_headers(path)
        files = dict.fromkeys((IMAGES, LABELS), path)
        for name in files:
            if name not in headers:
                raise DataError(
                    f"{path} holds no array {name!r}, only {', '.join(sorted(headers)) or 'nothing'}; a shard needs "
                    f"the arrays {IMAGES!r} and {LABELS!r}"
                )
    else:
        beside = path.with_name(path.name.removesuffix(f"{IMAGES}.npy") + f"{LABELS}.npy")
        if not is_file(beside):
            raise DataError(f"{path} exists, but {beside.name} beside it does not; add it")
        files = {IMAGES: path, LABELS: beside}
        headers = {name: npy_header(file) for name, file in files.items()}
    shard = Shard(path, files, {name: headers[name] for name in files})
    for name, header in shard.headers.items():
        check_complete(files[name], name, header)
    check_examples((path, IMAGES, shard.headers[IMAGES]), (files[LABELS], LABELS, shard.headers[LABELS]))
    return shard


def _class_names(root: Path) -> tuple[str, ...]:
    """Return the lines of `classes.txt`; empty if there is no such file."""
    path = root / CLASSES
    if not is_file(path):
        return ()
    with reading(path, UnicodeDecodeError):
        lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(line.strip() for line in lines if line.strip())


def _count_classes(train: ShardSplit) -> int:
    largest = -1
    for shard in train.shards:
        labels = shard.open().labels
        largest = max(largest, int(labels.max()))
        if labels.min() < 0 or largest >= _MOST_CLASSES:
            raise DataError(
                f"{shard.path}: labels are not all from 0 to {_MOST_CLASSES - 1:,}; they must number the classes from "
                "0. If there are more classes, set data.dataset.num_classes"
            )
    return largest + 1
