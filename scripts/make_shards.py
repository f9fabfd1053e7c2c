"""Writes a data set of `jaxtrain list datasets` as .npz shards, which are streamed without decoding.

`python scripts/make_shards.py "image_folder(size=[64, 64])" OUT --data-dir DIR` reads the pictures in threads, a shard
at a time, and writes OUT/train-00000.npz and so on; train with `data.dataset=shards data.stream=true --data-dir OUT`.
"""

import argparse
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from jaxtrain.config import DataConfig
from jaxtrain.data.source import ArraySource
from jaxtrain.data.sources.shard_split import IMAGES, LABELS
from jaxtrain.data.sources.shards import CLASSES
from jaxtrain.data.splits import plan_splits, stream_splits


def write_shards(folder: Path, split: str, parts: Iterable[ArraySource]) -> list[Path]:
    """Writes each of `parts` to a file of its own, `SPLIT-00000.npz` and on, not compressed.

    One is in memory at a time. A file has its name only when all of it is there.

    Args:
      folder: made if it is not there.
      split: "train" or "test".
      parts: the images and labels of one shard after the other.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, part in enumerate(parts):
        path = folder / f"{split}-{number:05}.npz"
        unfinished = path.with_suffix(".unfinished")
        with unfinished.open("wb") as file:
            np.savez(file, allow_pickle=False, **{IMAGES: part.images, LABELS: part.labels})
        os.replace(unfinished, path)
        paths.append(path)
    return paths


def write_class_names(folder: Path, names: Iterable[str]) -> None:
    """Writes `classes.txt`, a name a line in the order of the labels."""
    (folder / CLASSES).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", help="a data set with its options, as in a config")
    parser.add_argument("folder", type=Path, help="where the shards are written")
    parser.add_argument("--data-dir", type=Path, help="where the data set's files are")
    parser.add_argument("--examples", type=int, default=10_000, help="in a shard, at the most")
    args = parser.parse_args()
    plan = plan_splits(DataConfig(dataset=args.dataset, batch_size=1, stream=True), args.data_dir)
    for name, split in stream_splits(plan, tuple(plan.sizes), seed=0).items():
        paths = write_shards(args.folder, name, split.chunks(args.examples))
        print(f"{name}: {len(split):,} examples in {len(paths)} files, {paths[0]} the first")
    write_class_names(args.folder, plan.dataset.class_names)


if __name__ == "__main__":
    main()
