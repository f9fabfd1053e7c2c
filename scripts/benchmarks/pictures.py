"""JPEGs decoded and random-resized-cropped to 224x224 ahead of the step, beside bare loops of Pillow and OpenCV.

Each on as many threads, or processes, as there are cores. JPEGs of 500x375 are made; `--images DIR` takes those there.
"""

import argparse
import contextlib
import functools
import io
import multiprocessing
import multiprocessing.pool
import os
import random
import statistics
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import measuring

_SIDE = 224
_BATCH = 32
_BATCHES = 12
_MOST = 256
"""JPEGs that are read, over and over."""


def run(args: argparse.Namespace) -> list[str]:
    """The table."""
    workers = len(os.sched_getaffinity(0))
    with _files(args.images) as paths, contextlib.ExitStack() as stack:
        each = [paths[i % len(paths)] for i in range(_BATCHES * _BATCH)]
        # Before jax starts its threads.
        pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(workers))
        pool.map(_pillow, [each[:1]] * workers)
        contenders: dict[str, Callable[[], None]] = {
            "jaxtrain": _ours(paths, workers),
            "Pillow, threads": functools.partial(_in_threads, _pillow, each, workers),
            "Pillow, processes": functools.partial(_in_processes, pool, each, workers),
        }
        if not measuring.missing("cv2"):
            contenders["OpenCV, threads"] = functools.partial(_in_threads, _opencv, each, workers)
        measures = {name: measuring.throughput(work, len(each)) for name, work in contenders.items()}
        found = measuring.in_turns(measures, args.rounds)
        size = statistics.mean(os.path.getsize(path) for path in paths) / 1024
        title = f"{len(paths)} JPEGs of {size:.0f} KiB on average, {workers} workers"
    return measuring.report(title, found, "jaxtrain", measuring.IMAGES)


def _ours(paths: Sequence[Path], workers: int) -> Callable[[], None]:
    """The stream of a training run, to the batch on the device."""
    from benchmarks.streams import streaming
    from jaxtrain.augment.decode.chain import compose_transforms
    from jaxtrain.augment.decode.crops import random_resized_crop
    from jaxtrain.data.encoded import Encoded, EncodedSource

    source = EncodedSource(len(paths), lambda i: Encoded(paths[i], 0, str(paths[i])), 3)
    return streaming(source, compose_transforms([random_resized_crop(_SIDE)]), _BATCH, _BATCHES, workers)


def _box(width: int, height: int) -> tuple[int, int, int, int]:
    """A crop of 8 to 100 % of the area and an aspect of 3/4 to 4/3, as briefly as it can be written."""
    for _ in range(10):
        area, aspect = width * height * random.uniform(0.08, 1), (4 / 3) ** random.uniform(-1, 1)
        w, h = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if w <= width and h <= height:
            left, top = random.randint(0, width - w), random.randint(0, height - h)
            return left, top, left + w, top + h
    return 0, 0, width, height


def _pillow(paths: Sequence[Path]) -> None:
    for path in paths:
        with Image.open(path) as image:
            part = image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, box=_box(*image.size))
            np.asarray(part)


def _opencv(paths: Sequence[Path]) -> None:
    import cv2  # type: ignore[import-not-found]

    for path in paths:
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        left, top, right, bottom = _box(image.shape[1], image.shape[0])
        cv2.resize(image[top:bottom, left:right], (_SIDE, _SIDE), interpolation=cv2.INTER_LINEAR)


def _in_threads(work: Callable[[Sequence[Path]], None], paths: Sequence[Path], workers: int) -> None:
    threads = [threading.Thread(target=work, args=(paths[i::workers],)) for i in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _in_processes(pool: multiprocessing.pool.Pool, paths: Sequence[Path], workers: int) -> None:
    pool.map(_pillow, [paths[i::workers] for i in range(workers)], chunksize=1)


@contextlib.contextmanager
def _files(folder: Path | None) -> Iterator[list[Path]]:
    if folder is not None:
        yield sorted(folder.rglob("*.jpg"))[:_MOST]
        return
    rng = np.random.RandomState(0)
    with tempfile.TemporaryDirectory() as made:
        paths = [Path(made, f"{i}.jpg") for i in range(64)]
        for path in paths:
            path.write_bytes(_jpeg(rng))
        yield paths


def _jpeg(rng: np.random.RandomState) -> bytes:
    """A photograph's worth of detail: smooth colors and noise, 500x375, about 80 KiB."""
    smooth = Image.fromarray(rng.randint(0, 256, (47, 63, 3)).astype(np.uint8)).resize((500, 375))
    noisy = (np.asarray(smooth).astype(int) + rng.randint(-12, 13, (375, 500, 3))).clip(0, 255)
    stream = io.BytesIO()
    Image.fromarray(noisy.astype(np.uint8)).save(stream, "JPEG", quality=90)
    return stream.getvalue()
