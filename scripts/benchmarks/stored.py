"""Images of 32x32 streamed from memory, shards, ArrayRecord and PNGs, beside the barest loop that gathers the same.

Random images are written to be read. `--of shards` and the like choose where from.
"""

import argparse
import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from benchmarks import measuring

if TYPE_CHECKING:
    from jaxtrain.data.source import ArraySource

Gather = Callable[[np.ndarray], np.ndarray]
"""Indices to images, as barely as that can be done."""

_BATCH = 128
_BATCHES = 400
_COUNT = 20_000


def run(args: argparse.Namespace) -> list[str]:
    """The tables."""
    workers, lines = len(os.sched_getaffinity(0)), []
    makers = {"memory": _memory, "shards": _shards, "records": _records, "pictures": _pictures}
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        held = _written(root)
        for name in args.of or makers:
            source, views, gather = makers[name](root, held, workers)
            # a tenth of what is decoded, or parsed, image by image
            batches = _BATCHES if name in ("memory", "shards") else _BATCHES // 10
            lines += _compared(name, source, views, gather, batches, args.rounds)
    return lines


def _compared(name: str, source: Any, views: Any, gather: Gather, batches: int, rounds: int) -> list[str]:
    from benchmarks.streams import streaming

    workers, images = len(os.sched_getaffinity(0)), batches * _BATCH
    ours = streaming(source, views, _BATCH, batches, workers)
    contenders = {
        "jaxtrain": measuring.throughput(ours, images),
        "bare loop": measuring.throughput(functools.partial(_bare, gather, len(source), batches), images),
    }
    found = measuring.in_turns(contenders, rounds)
    title = f"{name}: {len(source)} images, {batches} batches of {_BATCH}"
    return [*measuring.report(title, found, "jaxtrain", measuring.IMAGES), ""]


def _bare(gather: Gather, examples: int, batches: int) -> None:
    import jax

    order = np.concatenate([np.random.permutation(examples) for _ in range(batches * _BATCH // examples + 1)])
    for step in range(batches):
        jax.device_put(gather(order[step * _BATCH : (step + 1) * _BATCH])).block_until_ready()


def _memory(root: Path, held: "ArraySource", workers: int) -> tuple[Any, Any, Gather]:
    from jaxtrain.data.stored import wrap_as_stored

    return wrap_as_stored(held), None, lambda indices: held.images[indices]


def _shards(root: Path, held: "ArraySource", workers: int) -> tuple[Any, Any, Gather]:
    """Beside one mapped array."""
    from jaxtrain.data.sources.shards import shards

    images = np.load(root / "whole.npy", mmap_mode="r")
    return shards(directory=root).store("train"), None, lambda indices: np.asarray(images[indices])


def _records(root: Path, held: "ArraySource", workers: int) -> tuple[Any, Any, Gather]:
    """Beside tensorflow-datasets' own reading of the same records."""
    import tensorflow_datasets

    from jaxtrain.data.sources.tfds import tfds

    builder = tensorflow_datasets.core.read_only_builder.builder_from_files("raw", data_dir=str(root))
    source = builder.as_data_source("train")

    def gather(indices: np.ndarray) -> np.ndarray:
        return np.stack([record["image"] for record in source.__getitems__(indices.tolist())])

    return tfds(builder="raw", directory=root).store("train"), None, gather


def _pictures(root: Path, held: "ArraySource", workers: int) -> tuple[Any, Any, Gather]:
    """Beside Pillow in as many threads."""
    from jaxtrain.augment.decode.chain import compose_transforms
    from jaxtrain.augment.decode.sizes import fit
    from jaxtrain.data.sources.image_folder import image_folder

    paths = sorted((root / "train" / "only").iterdir())
    pool = ThreadPoolExecutor(workers)

    def decode(index: int) -> np.ndarray:
        with Image.open(paths[index]) as image:
            return np.asarray(image.convert("RGB"))

    source = image_folder(directory=root, size=(32, 32), test=None).stream("train")
    return source, compose_transforms([fit(32, 32)]), lambda indices: np.stack(list(pool.map(decode, indices)))


def _written(root: Path) -> "ArraySource":
    """Random images in every form below `root`; a tenth of them where reading is slow."""
    from make_shards import write_shards

    from jaxtrain.data.source import ArraySource

    draw = np.random.RandomState(0)
    held = ArraySource(draw.randint(0, 256, (_COUNT, 32, 32, 3)).astype(np.uint8), np.zeros(_COUNT, np.int32))
    write_shards(root, "train", (held.take(np.arange(i, i + 1000)) for i in range(0, _COUNT, 1000)))
    np.save(root / "whole.npy", held.images)
    (root / "train" / "only").mkdir(parents=True)
    for i, image in enumerate(held.images[: _COUNT // 10]):
        Image.fromarray(image).save(root / "train" / "only" / f"{i:05}.png")
    _write_records(root, held.images[: _COUNT // 10])
    return held


def _write_records(root: Path, images: np.ndarray) -> None:
    import tensorflow_datasets

    core, features = tensorflow_datasets.core, tensorflow_datasets.features

    class Raw(tensorflow_datasets.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[misc,call-arg]
        VERSION = core.Version("1.0.0")
        name = "raw"

        def _info(self) -> object:
            form = {
                "image": features.Tensor(shape=(32, 32, 3), dtype=np.uint8),
                "label": features.ClassLabel(names=["a"]),
            }
            return core.DatasetInfo(builder=self, features=features.FeaturesDict(form))

        def _split_generators(self, dl_manager: object) -> object:
            return {"train": self._generate_examples()}

        def _generate_examples(self) -> Iterator[tuple[int, dict[str, object]]]:
            for i, image in enumerate(images):
                yield i, {"image": image, "label": 0}

    Raw(data_dir=root, file_format="array_record").download_and_prepare(file_format="array_record")
