"""What the input of a training run costs: `host`, JPEGs ahead of the step; `stream`, arrays; `device`, augmentation.

`python scripts/bench_input.py host` makes its own JPEGs of 500x375; `--images DIR` takes those below a folder.
`python scripts/bench_input.py stream` writes random images of CIFAR-10's size as shards, records and PNGs to read.
`python scripts/bench_input.py device` takes random images of CIFAR-10's size, and ResNet-20.
"""

import argparse
import contextlib
import functools
import importlib.util
import io
import multiprocessing
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from jaxtrain.data.dataset import ArraySource

_SIDE = 224
_BATCH = 32
_SMALL_BATCH = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="PART")
    host = commands.add_parser("host", help="JPEGs decoded and random-resized-cropped to 224x224")
    host.add_argument("--images", type=Path, help="a folder with .jpg files below it (default: made on the fly)")
    host.add_argument("--count", type=int, default=256, help="JPEGs, at the most")
    host.add_argument("--batches", type=int, default=12, help=f"of {_BATCH}, in each measurement")
    host.add_argument("--rounds", type=int, default=9)
    host.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    host.set_defaults(run=measure_host)
    stream = commands.add_parser("stream", help="images of 32x32 that need no decoding, and PNGs beside them")
    stream.add_argument("--count", type=int, default=20_000, help="images")
    stream.add_argument("--batches", type=int, default=400, help=f"of {_SMALL_BATCH}, in each measurement")
    stream.add_argument("--rounds", type=int, default=9)
    stream.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    stream.set_defaults(run=measure_stream)
    device = commands.add_parser("device", help="augmentation, mixing and normalization inside a step of ResNet-20")
    device.add_argument("--rounds", type=int, default=9)
    device.add_argument("--calls", type=int, default=20, help="of a loader, in each measurement")
    device.set_defaults(run=measure_device)
    args = parser.parse_args()
    args.run(args)


def measure_host(args: argparse.Namespace) -> None:
    """Ours and the bare loops in turns, each on as many threads or processes; medians, and ratios of a round."""
    with _files(args.images, args.count) as paths:
        each = [paths[i % len(paths)] for i in range(args.batches * _BATCH)]
        sizes = [os.path.getsize(path) for path in paths]
        print(f"{len(paths)} JPEGs of {statistics.mean(sizes) / 1024:.0f} KiB on average, {args.workers} workers")
        with contextlib.ExitStack() as stack:
            # Before jax starts its threads.
            pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(args.workers))
            pool.map(_pillow_all, [each[:1]] * args.workers)
            contenders: dict[str, Callable[[], None]] = {
                "jaxtrain": _ours(paths, args.batches, args.workers),
                "Pillow, threads": functools.partial(_in_threads, _pillow_all, each, args.workers),
                "Pillow, processes": functools.partial(_in_processes, pool, each, args.workers),
            }
            if importlib.util.find_spec("cv2") is not None:
                contenders["OpenCV, threads"] = functools.partial(_in_threads, _opencv_all, each, args.workers)
            _report(contenders, len(each), args.rounds)


def measure_stream(args: argparse.Namespace) -> None:
    """The stream of a run from each kind of files to the device, and the barest loop that gathers the same batches."""
    from jaxtrain.data.sources.image_folder import image_folder
    from jaxtrain.data.sources.shards import shards
    from jaxtrain.data.sources.tfds import tfds
    from jaxtrain.data.stored import stored_arrays

    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        held = _write_arrays(root, args.count)
        batches = args.batches
        small = max(batches // 10, 1)  # of what is decoded, or parsed, image by image
        sources: dict[str, tuple[object, int, Callable[[np.ndarray], np.ndarray]]] = {
            "host memory": (stored_arrays(held), batches, lambda indices: held.images[indices]),
            "npz shards": (shards(directory=root).store("train"), batches, _bare_mapped(root)),
            "ArrayRecord, raw": (tfds(builder="raw", directory=root).store("train"), small, _bare_records(root)),
            "folder of PNGs": (
                image_folder(directory=root, size=(32, 32), test=None).stream("train"),
                small,
                _bare_pictures(root, args.workers),
            ),
        }
        for name, (source, count, bare) in sources.items():
            print(f"{name}: {len(source)} images, {count} batches of {_SMALL_BATCH}")  # type: ignore[arg-type]
            contenders: dict[str, Callable[[], None]] = {
                "jaxtrain": _stream(source, count, args.workers),
                "bare loop": functools.partial(_bare, bare, len(source), count),  # type: ignore[arg-type]
            }
            _report(contenders, count * _SMALL_BATCH, args.rounds)


def _write_arrays(root: Path, count: int) -> "ArraySource":
    """Random images in every form below `root`; a tenth of them where reading is slow."""
    import tensorflow_datasets

    from jaxtrain.data.dataset import ArraySource
    from jaxtrain.data.sources.shard_writing import write_shards

    features, tenth = tensorflow_datasets.features, count // 10
    rng = np.random.RandomState(0)
    held = ArraySource(rng.randint(0, 256, (count, 32, 32, 3)).astype(np.uint8), np.zeros(count, np.int32))
    write_shards(root, "train", (held.take(np.arange(i, min(i + 1000, count))) for i in range(0, count, 1000)))
    np.save(root / "whole.npy", held.images)
    (root / "train" / "only").mkdir(parents=True)
    for i, image in enumerate(held.images[:tenth]):
        Image.fromarray(image).save(root / "train" / "only" / f"{i:05}.png")

    class Raw(tensorflow_datasets.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[misc,call-arg]
        VERSION = tensorflow_datasets.core.Version("1.0.0")
        name = "raw"

        def _info(self) -> object:
            form = {
                "image": features.Tensor(shape=(32, 32, 3), dtype=np.uint8),
                "label": features.ClassLabel(names=["a"]),
            }
            return tensorflow_datasets.core.DatasetInfo(builder=self, features=features.FeaturesDict(form))

        def _split_generators(self, dl_manager: object) -> object:
            return {"train": self._generate_examples()}

        def _generate_examples(self) -> Iterator[tuple[int, dict[str, object]]]:
            for i, image in enumerate(held.images[:tenth]):
                yield i, {"image": image, "label": 0}

    Raw(data_dir=root, file_format="array_record").download_and_prepare(file_format="array_record")
    return held


def _stream(source: object, batches: int, workers: int) -> Callable[[], None]:
    from jaxtrain.augment.host.chain import chain
    from jaxtrain.augment.host.sizes import fit
    from jaxtrain.data.encoded import EncodedSource
    from jaxtrain.data.orders import ExampleOrder
    from jaxtrain.data.streaming import StreamedSplit, TrainingStream
    from jaxtrain.training.parallel import make_layout
    from jaxtrain.training.random import HOST_AUGMENT, SHUFFLE, example_stream, host_stream

    made = chain([fit(32, 32)]) if isinstance(source, EncodedSource) else None
    split = StreamedSplit("bench", source, made, 1, workers)  # type: ignore[arg-type]
    order = ExampleOrder(functools.partial(host_stream, 0, SHUFFLE), len(split))
    draws, divided = functools.partial(example_stream, 0, HOST_AUGMENT), make_layout(1, _SMALL_BATCH).batch

    def run() -> None:
        with contextlib.closing(TrainingStream(split, made, draws, order, _SMALL_BATCH, batches, divided)) as stream:
            for step in range(batches):
                stream(step).images.block_until_ready()

    return run


def _bare(read: Callable[[np.ndarray], np.ndarray], examples: int, batches: int) -> None:
    import jax

    order = np.concatenate([np.random.permutation(examples) for _ in range(batches * _SMALL_BATCH // examples + 1)])
    for step in range(batches):
        jax.device_put(read(order[step * _SMALL_BATCH : (step + 1) * _SMALL_BATCH])).block_until_ready()


def _bare_mapped(root: Path) -> Callable[[np.ndarray], np.ndarray]:
    images = np.load(root / "whole.npy", mmap_mode="r")
    return lambda indices: np.asarray(images[indices])


def _bare_records(root: Path) -> Callable[[np.ndarray], np.ndarray]:
    import tensorflow_datasets

    source = tensorflow_datasets.core.read_only_builder.builder_from_files("raw", data_dir=str(root)).as_data_source(
        "train"
    )
    return lambda indices: np.stack([record["image"] for record in source.__getitems__(indices.tolist())])


def _bare_pictures(root: Path, workers: int) -> Callable[[np.ndarray], np.ndarray]:
    from concurrent.futures import ThreadPoolExecutor

    paths = sorted((root / "train" / "only").iterdir())
    pool = ThreadPoolExecutor(workers)

    def decode(index: int) -> np.ndarray:
        with Image.open(paths[index]) as image:
            return np.asarray(image.convert("RGB"))

    return lambda indices: np.stack(list(pool.map(decode, indices)))


_INPUTS: dict[str, tuple[str, ...]] = {
    "normalize": (),
    "pad_crop|flip_lr, normalize": ("data.augment=pad_crop(4)|flip_lr",),
    "the same, cutout": ("data.augment=pad_crop(4)|flip_lr|cutout(16)",),
    "the same, mixup": ("data.augment=pad_crop(4)|flip_lr", "data.mix=mixup(1.0)"),
    "the same, randaugment": ("data.augment=pad_crop(4)|flip_lr|randaugment(2, 9)",),
    "the same, randaugment, mixup": (
        "data.augment=pad_crop(4)|flip_lr|randaugment(2, 9)",
        "data.mix=mixup(1.0)",
    ),
}


def measure_device(args: argparse.Namespace) -> None:
    """The step of ResNet-20 on a batch that is ready, and in turns with it each way to make one, by itself."""
    step, loads = _device_parts()
    times: dict[str, list[float]] = {name: [] for name in ("step", *loads)}
    for turn in range(args.rounds + 1):
        for name in times:
            run, calls = (step, 1) if name == "step" else (loads[name], args.calls)
            began = time.perf_counter()
            for _ in range(calls):
                run()
            if turn:  # the first compiles
                times[name].append((time.perf_counter() - began) / calls)
    whole = statistics.median(times["step"])
    print(f"a step of ResNet-20 on 128 images: {1000 * whole:.0f} ms; to make its batch:")
    for name in loads:
        share = statistics.median(a / b for a, b in zip(times[name], times["step"], strict=True))
        print(f"{name:30} {1000 * statistics.median(times[name]):7.1f} ms  {100 * share:5.1f} % of a step")
    print("load average", " ".join(f"{x:.1f}" for x in os.getloadavg()))


def _device_parts() -> tuple[Callable[[], None], dict[str, Callable[[], None]]]:
    """Functions that make a step, and that make a batch in each of the ways, and wait for it."""
    import jax

    from jaxtrain.config import apply_overrides, load_config
    from jaxtrain.data.loader import on_device
    from jaxtrain.data.splits import fit_normalization, load_splits
    from jaxtrain.training.plan import make_plan
    from jaxtrain.training.state import initializer
    from jaxtrain.training.tools import make_feed

    data = "synthetic(height=32, width=32, channels=3, num_classes=10, train_examples=5000, test_examples=100)"
    recipe = apply_overrides(
        load_config("cifar10_resnet20"),
        [f"data.dataset={data}", "data.validation=none", "data.normalize=mean_std", "data.normalize_first=false"],
    )
    batches: dict[str, Callable[[], None]] = {}
    for name, settings in _INPUTS.items():
        plan = make_plan(apply_overrides(recipe, ["data.augment=", *settings, "devices=1"]))
        splits = load_splits(plan.splits, ("train",), 0)
        load, order = make_feed(plan, fit_normalization(plan.splits, splits["train"]))
        everywhere = plan.layout.replicated
        arguments = (on_device(splits["train"], everywhere), order.order(0), jax.device_put(np.int32(0), everywhere))
        batches[name] = functools.partial(_wait, jax.jit(load), arguments)
    plan = make_plan(apply_overrides(recipe, ["data.augment=", "devices=1"]))
    shapes = plan.abstract_batch
    batch = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    state = jax.jit(initializer(plan.model, plan.optimizer.tx, plan.splits.image_shape, 0))()
    return functools.partial(_wait, jax.jit(plan.train_step), (state, jax.device_put(batch))), batches


def _wait(function: Callable[..., object], arguments: tuple[object, ...]) -> None:
    import jax

    jax.block_until_ready(function(*arguments))


def _report(contenders: dict[str, Callable[[], None]], images: int, rounds: int) -> None:
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, run in contenders.items():
            began = time.perf_counter()
            run()
            if turn:  # the first warms up
                speeds[name].append(images / (time.perf_counter() - began))
    ours = speeds["jaxtrain"]
    for name, found in speeds.items():
        ratio = statistics.median(a / b for a, b in zip(ours, found, strict=True))
        print(
            f"{name:18} {statistics.median(found):6.0f} images/s [{min(found):.0f}-{max(found):.0f}]"
            + (f"  ours to it: {ratio:.2f}" if name != "jaxtrain" else "")
        )
    print("load average", " ".join(f"{x:.1f}" for x in os.getloadavg()))


def _ours(paths: Sequence[Path], batches: int, workers: int) -> Callable[[], None]:
    """The stream of a training run, to the batch on the device."""
    from jaxtrain.augment.host.chain import chain
    from jaxtrain.augment.host.crops import random_resized_crop
    from jaxtrain.data.encoded import Encoded, EncodedSource
    from jaxtrain.data.orders import ExampleOrder
    from jaxtrain.data.streaming import StreamedSplit, TrainingStream
    from jaxtrain.training.parallel import make_layout
    from jaxtrain.training.random import HOST_AUGMENT, SHUFFLE, example_stream, host_stream

    crop = chain([random_resized_crop(_SIDE)])
    source = EncodedSource(len(paths), lambda i: Encoded(paths[i], 0, str(paths[i])), 3)
    split = StreamedSplit("bench", source, crop, 1, workers)
    order = ExampleOrder(functools.partial(host_stream, 0, SHUFFLE), len(paths))
    divided = make_layout(1, _BATCH).batch

    def run() -> None:
        stream = TrainingStream(
            split,
            crop,
            functools.partial(example_stream, 0, HOST_AUGMENT),
            order,
            _BATCH,
            batches,
            divided,
        )
        with contextlib.closing(stream):
            for step in range(batches):
                stream(step).images.block_until_ready()

    return run


def _box(width: int, height: int) -> tuple[int, int, int, int]:
    """A crop of 8 to 100 % of the area and an aspect of 3/4 to 4/3, as briefly as it can be written."""
    for _ in range(10):
        area, aspect = width * height * random.uniform(0.08, 1), (4 / 3) ** random.uniform(-1, 1)
        w, h = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if w <= width and h <= height:
            left, top = random.randint(0, width - w), random.randint(0, height - h)
            return left, top, left + w, top + h
    return 0, 0, width, height


def _pillow_all(paths: Sequence[Path]) -> None:
    for path in paths:
        with Image.open(path) as image:
            part = image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, box=_box(*image.size))
            np.asarray(part)


def _opencv_all(paths: Sequence[Path]) -> None:
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


def _in_processes(pool: "multiprocessing.pool.Pool", paths: Sequence[Path], workers: int) -> None:
    pool.map(_pillow_all, [paths[i::workers] for i in range(workers)], chunksize=1)


@contextlib.contextmanager
def _files(folder: Path | None, count: int) -> Iterator[list[Path]]:
    if folder is not None:
        yield sorted(folder.rglob("*.jpg"))[:count]
        return
    rng = np.random.RandomState(0)
    with tempfile.TemporaryDirectory() as made:
        paths = [Path(made, f"{i}.jpg") for i in range(min(count, 64))]
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


if __name__ == "__main__":
    main()
