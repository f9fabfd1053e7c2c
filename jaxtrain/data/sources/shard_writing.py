"""Writing the shards that `jaxtrain.data.sources.shards` reads."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from jaxtrain.data.source import ArraySource
from jaxtrain.data.sources.shard_split import IMAGES, LABELS
from jaxtrain.data.sources.shards import CLASSES


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
