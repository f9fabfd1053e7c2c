"""When memory runs out: which setting of the run needs less of it, by what the run was doing."""

import contextlib
import re
from collections.abc import Iterator

import jax

from jaxtrain.config import Config
from jaxtrain.errors import OutOfMemory

INITIALIZATION = "the first state was made"
DATA = "the data set was put on the devices"
COMPILATION = "the training step was compiled"
TRAINING = "training"
EVALUATION = "the model was evaluated"

_WANTED = re.compile(r"(?:allocate|allocating) ([\d.,]+ ?(?:bytes|[KMGT]i?B))", re.IGNORECASE)


@contextlib.contextmanager
def explained(config: Config, doing: str) -> Iterator[None]:
    """Turns what jax and Python raise where memory runs out into `OutOfMemory`, with what `config` can do about it.

    Args:
      config: of the run.
      doing: what it does within: one of the constants of this module.
    """
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        wanted = _WANTED.search(str(error))
        size = f" ({wanted[1]} could not be had)" if wanted else ""
        knobs = "; ".join(_knobs(config, doing))
        raise OutOfMemory(
            f"memory ran out while {doing}{size}. What needs less: {knobs}. "
            "`jaxtrain check CONFIG --compile` says what a step needs before a run"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory ran out: Python's own, or XLA's RESOURCE_EXHAUSTED."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error) or "Out of memory" in str(error)


def _knobs(config: Config, doing: str) -> Iterator[str]:
    """What to turn, the most likely first."""
    if doing == DATA:
        yield from _data(config)
    elif doing == EVALUATION:
        yield f"evaluation.batch_size, which is {config.evaluation.batch_size}"
        yield from _data(config)
    elif doing in (COMPILATION, TRAINING):
        yield from _activations(config)
        yield from _data(config)
    yield from _state(config)


def _activations(config: Config) -> Iterator[str]:
    size, micro = config.data.batch_size, config.data.micro_batch
    if micro is not None and micro > 1:
        yield f"a smaller data.micro_batch than {micro}"
    elif size == "all":
        yield "data.micro_batch, examples that go through the model at a time"
    elif micro is None and size > 1:
        yield f"data.micro_batch={max(size // 4, 1)}, which leaves the step what it is"
        yield f"a smaller data.batch_size than {size}"
    if config.model.options.get("remat") is False:
        yield "model.remat=true, which computes blocks once more instead of keeping them"
    if config.precision.policy == "float32" and config.model.options.get("dtype") == "float32":
        yield "precision=bfloat16"


def _data(config: Config) -> Iterator[str]:
    if not (config.data.host or config.data.stream):
        yield "the data set itself, which is held on every device unless data.stream=true or data.host streams it"


def _state(config: Config) -> Iterator[str]:
    yield "a smaller model, or an optimizer that keeps less for each parameter"
    if not config.parallel.fsdp and config.devices != 1 and config.parallel.backend == "jit":
        yield "parallel.fsdp=true, which divides parameters and the optimizer's state among devices"
    yield f"more devices, where there are some (devices={'all' if config.devices is None else config.devices})"
