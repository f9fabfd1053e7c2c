"""Arrays in many files: a folder of numbered .npz or .npy shards, of which none need fit in memory."""

import re
from pathlib import Path

from jaxtrain.annotations import PositiveInt
from jaxtrain.data.dataset import Dataset
from jaxtrain.data.sources.files import data_directory, is_directory, is_file, reading
from jaxtrain.data.sources.npy_files import check_examples, check_whole, npy_header, npz_headers
from jaxtrain.data.sources.shard_split import IMAGES, LABELS, Shard, ShardSplit
from jaxtrain.errors import DataError

_NAME = re.compile(r"(?P<split>train|test)-(?P<number>\d+)(?:-of-(?P<count>\d+))?\.(?P<kind>npz|images\.npy)")
_WANTED = (
    "train-00000.npz, train-00001.npz ... (arrays images and labels), or train-00000.images.npy and .labels.npy ..."
)
CLASSES = "classes.txt"
# More than any data set has: labels beyond are something else, such as identifiers.
_MOST_CLASSES = 1_000_000


def shards(*, directory: Path | None, subdirectory: str = "", num_classes: PositiveInt | None = None) -> Dataset:
    """Images and labels in numbered files, `train-00000.npz`, ... and, if there is a test split, `test-00000.npz`, ...

    Each holds the arrays `images`, uint8 of [n, H, W] or [n, H, W, C], and `labels`, whole numbers of [n] or [n, 1];
    or there are two files for it, `train-00000.images.npy` and `train-00000.labels.npy`. Numbers run from 0 and none
    is left out; a name may end in `-of-00010`. Sizes of shards may differ. When they are streamed (`data.stream`),
    shards that are not compressed are mapped into memory, so that only what is looked at is read.

    Args:
      directory: the data directory.
      subdirectory: the folder under `directory` that holds the files.
      num_classes: labels lie in [0, num_classes). None counts the lines of `classes.txt`, a name a class; where that is
        not there, all training labels are read, and it is the greatest of them plus one.

    Raises:
      DataError: files are missing, damaged, cut off, or do not fit together; only their headers are looked at.
    """
    root = data_directory("shards", directory, _WANTED) / subdirectory
    if not is_directory(root):
        raise DataError(
            f"shards: there is no folder {root}; set data.dataset.subdirectory to the one that holds the files"
        )
    files = _find(root)
    splits = {split: ShardSplit(tuple(_shard(path) for path in paths)) for split, paths in files.items()}
    image_shape = splits["train"].shards[0].image_shape
    for split in splits.values():
        for shard in split.shards:
            if shard.image_shape != image_shape:
                raise DataError(
                    f"{shard.path}: images of shape {shard.image_shape}, and those of {splits['train'].shards[0].path} "
                    f"are of shape {image_shape}; all shards must have images of one shape"
                )
    names = _class_names(root)
    classes = num_classes or len(names) or _count_classes(splits["train"])
    if names and len(names) != classes:
        raise DataError(f"{root / CLASSES} names {len(names)} classes, and data.dataset.num_classes is {classes}")
    return Dataset(
        name=f"shards {root}",
        num_classes=classes,
        image_shape=image_shape,
        sizes={name: len(split) for name, split in splits.items()},
        class_names=names or tuple(map(str, range(classes))),
        read=lambda split: splits[split].read_all(),
        stored=lambda split: splits[split].stored(),
    )


def _find(root: Path) -> dict[str, list[Path]]:
    """The files of each split by number, "train" first; refuses what is missing or there twice."""
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
        raise DataError(f"shards: no training shards in {root}. Looked for {_WANTED}")
    for split, count in counts.items():
        missing = [number for number in range(count) if number not in found[split]]
        if missing:
            near = next(iter(found[split].values()))
            raise DataError(
                f"{root}: the {split} split lacks shard {missing[0]}, and {len(missing) - 1} more of {count} "
                f"(named as {near.name} is); put what is missing there"
            )
    return {split: [paths[number] for number in sorted(paths)] for split, paths in found.items() if paths}


def _shard(path: Path) -> Shard:
    """A shard by its headers, held to what images and labels are."""
    if path.suffix == ".npz":
        headers = npz_headers(path)
        files = dict.fromkeys((IMAGES, LABELS), path)
        for name in files:
            if name not in headers:
                raise DataError(
                    f"{path} holds no array {name!r}, only {', '.join(sorted(headers)) or 'nothing'}; a shard has "
                    f"{IMAGES!r} and {LABELS!r}"
                )
    else:
        beside = path.with_name(path.name.removesuffix(f"{IMAGES}.npy") + f"{LABELS}.npy")
        if not is_file(beside):
            raise DataError(f"{path} is there, and {beside.name} beside it is not; put it there")
        files = {IMAGES: path, LABELS: beside}
        headers = {name: npy_header(file) for name, file in files.items()}
    shard = Shard(path, files, {name: headers[name] for name in files})
    for name, header in shard.headers.items():
        check_whole(files[name], name, header)
    check_examples((path, IMAGES, shard.headers[IMAGES]), (files[LABELS], LABELS, shard.headers[LABELS]))
    return shard


def _class_names(root: Path) -> tuple[str, ...]:
    """The lines of `classes.txt`; none where there is no such file."""
    path = root / CLASSES
    if not is_file(path):
        return ()
    with reading(path, UnicodeDecodeError):
        lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(line.strip() for line in lines if line.strip())


def _count_classes(train: ShardSplit) -> int:
    greatest = -1
    for shard in train.shards:
        labels = shard.open().labels
        greatest = max(greatest, int(labels.max()))
        if labels.min() < 0 or greatest >= _MOST_CLASSES:
            raise DataError(
                f"{shard.path}: labels are not all from 0 to {_MOST_CLASSES - 1:,}; they number the classes from 0. If "
                "there are more classes, set data.dataset.num_classes"
            )
    return greatest + 1
