"""The splits of a run from a data set and a data config: validation split, resizing, padding, preprocessing."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from jaxtrain.config.schema import DataConfig
from jaxtrain.data.dataset import Dataset
from jaxtrain.data.decode_chains import DecodeChains, build_decode_chains
from jaxtrain.data.memory import MemorySplit
from jaxtrain.data.preprocessing.base import Preprocessing, PreprocessingFitter
from jaxtrain.data.preprocessing.resizing import output_shape, pad_images, resize_images
from jaxtrain.data.source import ArraySource, Split
from jaxtrain.data.streaming import StreamedSplit, available_cores
from jaxtrain.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class SplitPlan:
    """The shapes and sizes of the splits, known before any image is read.

    Attributes:
      dataset: the data set.
      config: the data config.
      image_shape: the height, width and channels of the model's input.
      sizes: the number of examples by split: "train", then "validation" and "test" if they exist.
      decode: the decode transforms; None if images are not decoded during training.
    """

    dataset: Dataset
    config: DataConfig
    image_shape: tuple[int, int, int]
    sizes: Mapping[str, int]
    decode: DecodeChains | None = None

    @property
    def batch_size(self) -> int:
        """The number of examples in a training step; all of the training split if the config says "all"."""
        return self.sizes["train"] if self.config.batch_size == "all" else self.config.batch_size

    @property
    def streamed(self) -> bool:
        """Whether splits are read on demand instead of stored on the devices."""
        return self.decode is not None or self.config.stream

    @property
    def needs_single_steps(self) -> str:
        """The reason for which steps must be dispatched one by one; "" if one call can run several steps."""
        return "streamed batches arrive one at a time" if self.streamed else ""

    @property
    def workers(self) -> int:
        """The number of threads that read streamed splits; 0 for only the caller's."""
        return available_cores() if self.config.workers is None else self.config.workers

    @property
    def recipe(self) -> PreprocessingFitter:
        """The preprocessing before fitting."""
        recipe: PreprocessingFitter = self.config.normalize.build()
        return recipe


def plan_splits(config: DataConfig, directory: Path | None) -> SplitPlan:
    """Find the data set's files and compute the splits; raise `ConfigError` if they cannot satisfy the config."""
    dataset: Dataset = config.dataset.build(directory=directory)
    total = dataset.sizes["train"]
    held_out = config.validation.examples(total) if config.validation is not None else 0
    if config.validation is not None and not 0 < held_out < total:
        raise ConfigError(
            f"'{config.validation}' reserves {held_out} of the {total} training examples; both splits must hold some",
            "data.validation",
        )
    sizes = {"train": total - held_out}
    if held_out:
        sizes["validation"] = held_out
    if "test" in dataset.sizes:
        sizes["test"] = dataset.sizes["test"]
    if config.batch_size != "all" and config.batch_size > sizes["train"]:
        raise ConfigError(
            f"a batch of {config.batch_size} is larger than the training split of {dataset.name}, "
            f"which has {sizes['train']} examples; choose a smaller one",
            "data.batch_size",
        )
    decode = build_decode_chains(config, dataset.image_shape, encoded=dataset.encoded is not None)
    size = config.resize or (None if decode is None else decode.training.size[::-1])
    plan = SplitPlan(dataset, config, output_shape(dataset.image_shape, size, config.pad), sizes, decode)
    if config.stream and plan.batch_size == sizes["train"]:
        raise ConfigError(
            "a batch of the whole training split must be in memory; set data.stream=false", "data.batch_size"
        )
    try:
        plan.recipe.check(plan.image_shape)
    except ValueError as error:
        raise ConfigError(str(error), "data.normalize") from error
    return plan


def validation_indices(total: int, held_out: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices `(training, validation)`, each ascending, of a permutation that depends only on the seed.

    The generator is a `RandomState`, whose stream numpy never changes; the streams of newer generators may change.
    """
    permutation = np.random.RandomState(seed % 2**32).permutation(total)
    return np.sort(permutation[held_out:]), np.sort(permutation[:held_out])


def load_splits(plan: SplitPlan, names: tuple[str, ...], seed: int) -> dict[str, MemorySplit]:
    """Read the splits `names` into memory, resized but not padded; "train" and "validation" never overlap."""
    loaded: dict[str, ArraySource] = {}
    if "test" in names:
        loaded["test"] = plan.dataset.load("test")
    if "train" in names or "validation" in names:
        source = plan.dataset.load("train")
        held_out = plan.sizes.get("validation", 0)
        if held_out:
            training, validation = validation_indices(len(source), held_out, seed)
            parts = {"train": source.take(training), "validation": source.take(validation)}
        else:
            parts = {"train": source}
        loaded.update({k: v for k, v in parts.items() if k in names})
    size = plan.config.resize
    return {
        name: MemorySplit(source.images if size is None else resize_images(source.images, size), source.labels)
        for name, source in loaded.items()
    }


def stream_splits(plan: SplitPlan, names: tuple[str, ...], seed: int) -> dict[str, StreamedSplit]:
    """Open the splits `names` for reading on demand, resized but not padded, with the examples of `load_splits`."""
    chain, classes = None if plan.decode is None else plan.decode.evaluation, plan.dataset.num_classes

    def open_split(split: str) -> StreamedSplit:
        source = plan.dataset.store(split) if chain is None else plan.dataset.stream(split)
        name = f"{plan.dataset.name}, split {split}"
        return StreamedSplit(name, source, chain, classes, plan.workers, plan.config.resize)

    streamed = {"test": open_split("test")} if "test" in names else {}
    if "train" in names or "validation" in names:
        split, held_out = open_split("train"), plan.sizes.get("validation", 0)
        parts = {"train": split}
        if held_out:
            training, validation = validation_indices(len(split), held_out, seed)
            parts = {"train": split.take(training), "validation": split.take(validation)}
        streamed |= {name: part for name, part in parts.items() if name in names}
    return streamed


def read_splits(
    plan: SplitPlan, names: tuple[str, ...], seed: int
) -> Mapping[str, MemorySplit] | Mapping[str, StreamedSplit]:
    """Return the splits `names`, in memory or read on demand, as the config says."""
    return stream_splits(plan, names, seed) if plan.streamed else load_splits(plan, names, seed)


def fit_normalization(plan: SplitPlan, train: Split) -> Preprocessing:
    """Fit the preprocessing of the run to the training split as loaded, before padding."""
    if train.streamed and not plan.recipe.looks:  # decoding the split takes as long as an epoch
        return plan.recipe.fit([np.zeros((1, *plan.image_shape), np.uint8)])
    return plan.recipe.fit(_batches(plan, train))


def matches_normalization(plan: SplitPlan, train: Split, fitted: Preprocessing) -> bool:
    """Return whether `fitted` was fitted to this training split, judged by its means."""
    return plan.recipe.fits(fitted, _batches(plan, train))


_FEATURES_AT_A_TIME = 2**22


def _batches(plan: SplitPlan, split: Split) -> Iterator[np.ndarray]:
    """Yield the images a few at a time, padded if the preprocessing is fitted to padded images."""
    margin = plan.config.pad if plan.recipe.padded else 0
    size = max(_FEATURES_AT_A_TIME // math.prod(plan.image_shape), 1)
    for chunk in split.chunks(size):
        yield pad_images(chunk.images, margin)
