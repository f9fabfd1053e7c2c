"""Errors for a lack of memory, with the settings that reduce memory use in that phase of the run."""

import contextlib
import re
from collections.abc import Iterator

import jax

from jaxtrain.config import Config
from jaxtrain.errors import OutOfMemory

INITIALIZATION = "the state was initialized"
DATA = "the data set was put on the devices"
COMPILATION = "the training step was compiled"
TRAINING = "training"
EVALUATION = "the model was evaluated"

_REQUEST = re.compile(r"(?:allocate|allocating) ([\d.,]+ ?(?:bytes|[KMGT]i?B))", re.IGNORECASE)


@contextlib.contextmanager
def explain_out_of_memory(config: Config, doing: str) -> Iterator[None]:
    """Convert out-of-memory errors of jax and Python in a `with` block to `OutOfMemory`, with settings to change.

    Args:
      config: the run's configuration.
      doing: the phase of the run, one of the constants of this module.
    """
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        request = _REQUEST.search(str(error))
        size = f" ({request[1]} could not be allocated)" if request else ""
        suggestions = "; ".join(_suggest(config, doing))
        raise OutOfMemory(
            f"memory ran out while {doing}{size}. Settings that need less memory: {suggestions}. "
            "`jaxtrain check CONFIG --compile` shows the memory that a step needs"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is a lack of memory: Python's `MemoryError` or XLA's RESOURCE_EXHAUSTED."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error) or "Out of memory" in str(error)


def _suggest(config: Config, doing: str) -> Iterator[str]:
    """Yield the settings to change, those that most likely help first."""
    if doing == DATA:
        yield from _suggest_for_data(config)
    elif doing == EVALUATION:
        yield f"a smaller evaluation.batch_size than {config.evaluation.batch_size}"
        yield from _suggest_for_data(config)
    elif doing in (COMPILATION, TRAINING):
        yield from _suggest_for_activations(config)
        yield from _suggest_for_data(config)
    yield from _suggest_for_state(config)


def _suggest_for_activations(config: Config) -> Iterator[str]:
    size, micro = config.data.batch_size, config.data.micro_batch
    if micro is not None and micro > 1:
        yield f"a smaller data.micro_batch than {micro}"
    elif size == "all":
        yield "data.micro_batch, the number of examples that the model processes at a time"
    elif micro is None and size > 1:
        yield f"data.micro_batch={max(size // 4, 1)}, which keeps the batch size of a step"
        yield f"a smaller data.batch_size than {size}"
    if config.model.options.get("remat") is False:
        yield "model.remat=true, which computes blocks again instead of keeping their activations"
    if config.precision.policy == "float32" and config.model.options.get("dtype") == "float32":
        yield "precision=bfloat16"


def _suggest_for_data(config: Config) -> Iterator[str]:
    if not (config.data.decode or config.data.stream):
        yield "data.stream=true or data.decode, which stream the data set instead of keeping it on every device"


def _suggest_for_state(config: Config) -> Iterator[str]:
    yield "a smaller model, or an optimizer with less state per parameter"
    if not config.parallel.fsdp and config.devices != 1 and config.parallel.backend == "jit":
        yield "parallel.fsdp=true, which shards parameters and the optimizer's state over the devices"
    yield f"more devices, if available (devices={'all' if config.devices is None else config.devices})"
