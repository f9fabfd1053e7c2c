"""The order in which a run sees its examples, as its config says: for the loader in memory and for the stream."""

import functools
from collections.abc import Callable

from jaxtrain.config import Config
from jaxtrain.data.example_order import ExampleOrder, IndexOrder, IndexShuffle, Order, Permutes
from jaxtrain.random import SHUFFLE, host_stream


def epoch_draw(config: Config) -> Callable[[int], Permutes]:
    """From an epoch to what permutes the examples for it."""
    if config.data.shuffle == "index":
        return functools.partial(_index_shuffle, config.seed)
    return functools.partial(host_stream, config.seed, SHUFFLE)


def example_order(config: Config, examples: int) -> Order:
    """Which example stands at each position of the run; the same order as that of `loader.Shuffle`."""
    if config.data.shuffle == "index":
        return IndexOrder(functools.partial(_index_shuffle, config.seed), examples)
    return ExampleOrder(epoch_draw(config), examples)


def _index_shuffle(seed: int, epoch: int) -> IndexShuffle:
    return IndexShuffle(host_stream(seed, SHUFFLE, epoch))
