"""Models side by side: parameters, multiply-adds, measured times, memory of a training step, published errors."""

import dataclasses
import functools
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxtrain.analysis.cost import flops
from jaxtrain.config import ModelSpec
from jaxtrain.data.loader import Batch
from jaxtrain.errors import JaxtrainError
from jaxtrain.models import MODELS
from jaxtrain.models.outputs import logits_of
from jaxtrain.optim.losses import cross_entropy
from jaxtrain.optim.sgd import sgd
from jaxtrain.training.objective import Objective
from jaxtrain.training.state import TrainState
from jaxtrain.training.state import initializer as state_initializer
from jaxtrain.training.step import make_train_step

FEWEST, MOST = 3, 30
"""Rounds of measuring: what the median is of."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model to compare.

    Attributes:
      name: by which it is told apart.
      model: the Linen module.
      shape: of an image: height, width, channels.
      num_classes: of the data.
      published: errors, as in the facts of the table of models, the one to show first.
    """

    name: str
    model: nn.Module
    shape: tuple[int, int, int]
    num_classes: int
    published: tuple[Mapping[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """What a program takes for a batch.

    Attributes:
      forward_ms: of the model at test, in milliseconds, the median.
      step_ms: of a training step: forward, backward, and an update with momentum.
      step_bytes: in use by the compiled step: its arguments, results and what is between; None where the backend does
        not say.
    """

    forward_ms: float
    step_ms: float
    step_bytes: int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """A candidate and what was found.

    Attributes:
      candidate: the model.
      parameters: trained ones.
      multiply_adds: of convolutions, dense layers and attention, for one image at test.
      measured: times and memory; None where they were not asked for.
    """

    candidate: Candidate
    parameters: int
    multiply_adds: int
    measured: Measured | None = None


def published(spec: ModelSpec) -> tuple[Mapping[str, Any], ...]:
    """The published errors of a model: of its row, or of the row with the same factory and the same options."""

    def choices(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        return {**MODELS[name].preset, **options}

    wanted = choices(spec.name, spec.options)
    for name, info in MODELS.items():
        errors: tuple[Mapping[str, Any], ...] = info.facts.get("published", ())
        if errors and info.factory == MODELS[spec.name].factory and choices(name, ModelSpec(name).options) == wanted:
            return errors
    return ()


def compare(
    candidates: Sequence[Candidate], *, batch_size: int = 8, timed: bool = True, seconds: float = 10.0
) -> list[Comparison]:
    """Counts, and compiles and measures where asked to.

    The programs run in turn, so that other work on the machine falls on all of them alike; a first run of each is not
    counted. Values of parameters and images are random: times do not depend on them.

    Args:
      candidates: to compare; they are all in memory at once.
      batch_size: of what is measured.
      timed: whether to measure.
      seconds: of measuring, about, beyond the fewest rounds.

    Raises:
      JaxtrainError: where the memory is not enough.
      ValueError: by a model, where it cannot take its images.
    """
    counted = [_counted(c) for c in candidates]
    if not timed:
        return counted
    try:
        programs = [_Programs(c, batch_size) for c in candidates]
        times = _in_turn([run for p in programs for run in (p.forward, p.step)], seconds)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise JaxtrainError(
            f"there is not enough memory for {', '.join(c.name for c in candidates)} in batches of {batch_size}; "
            "take fewer models or smaller batches"
        ) from error
    return [
        dataclasses.replace(c, measured=Measured(forward_ms=forward, step_ms=step, step_bytes=p.step_bytes))
        for c, p, forward, step in zip(counted, programs, times[::2], times[1::2], strict=True)
    ]


def _counted(candidate: Candidate) -> Comparison:
    model = candidate.model
    images = jax.ShapeDtypeStruct((1, *candidate.shape), jnp.float32)
    init, apply = (functools.partial(f, train=False) for f in (model.init, model.apply))
    try:
        variables = jax.eval_shape(init, jax.random.key(0), images)
    except ValueError as error:
        raise ValueError(f"{candidate.name} on {'x'.join(map(str, candidate.shape))}: {error}") from error
    return Comparison(
        candidate=candidate,
        parameters=sum(math.prod(x.shape) for x in jax.tree.leaves(variables["params"])),
        multiply_adds=flops(jax.make_jaxpr(apply)(variables, images).jaxpr) // 2,
    )


class _Programs:
    """A model's two compiled programs, and the values they run on."""

    def __init__(self, candidate: Candidate, batch_size: int):
        rng = np.random.default_rng(0)
        model, tx = candidate.model, sgd(1e-3, momentum=0.9)
        abstract = jax.eval_shape(state_initializer(model, tx, candidate.shape, 0))
        values = jax.tree_util.tree_map_with_path(lambda path, leaf: _filled(str(path[-1]), leaf, rng), abstract)
        self._state: TrainState = jax.device_put(values)
        images = rng.standard_normal((batch_size, *candidate.shape), np.float32)
        labels = np.arange(batch_size, dtype=np.int32) % candidate.num_classes
        self._batch: Batch = jax.device_put(Batch(images, labels))  # type: ignore[arg-type]
        step = make_train_step(Objective(model, cross_entropy()), tx, seed=0)
        self._step = jax.jit(step, donate_argnums=0).lower(self._state, self._batch).compile()
        self._forward = jax.jit(_forward, static_argnums=0).lower(model, self._state, self._batch.images).compile()

    def forward(self) -> None:
        """Runs the model at test."""
        jax.block_until_ready(self._forward(self._state, self._batch.images))

    def step(self) -> None:
        """Makes a training step."""
        self._state, _ = jax.block_until_ready(self._step(self._state, self._batch))

    @property
    def step_bytes(self) -> int | None:
        """What the compiler says that a step takes; results that take the place of arguments count once."""
        found = self._step.memory_analysis()
        if found is None:
            return None
        sizes = (found.argument_size_in_bytes, found.output_size_in_bytes, found.temp_size_in_bytes)
        return int(sum(sizes) - found.alias_size_in_bytes)


def _forward(model: nn.Module, state: TrainState, images: jax.Array) -> jax.Array:
    return logits_of(model.apply({"params": state.params, **state.variables}, images, train=False))


def _filled(name: str, leaf: Any, rng: np.random.Generator) -> Any:
    """Values that neither vanish nor explode, without compiling an initialization."""
    if len(leaf.shape) > 1:
        return (rng.standard_normal(leaf.shape, np.float32) / math.sqrt(math.prod(leaf.shape[:-1]))).astype(leaf.dtype)
    return np.full(leaf.shape, 1 if "scale" in name or "var" in name else 0, leaf.dtype)


def _in_turn(runs: Sequence[Callable[[], None]], seconds: float) -> list[float]:
    """The median time of each, in milliseconds."""
    for run in runs:
        run()
    rounds = [[_milliseconds(run) for run in runs]]
    most = min(max(int(1000 * seconds / sum(rounds[0])), FEWEST), MOST)
    rounds += [[_milliseconds(run) for run in runs] for _ in range(most - 1)]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def _milliseconds(run: Callable[[], None]) -> float:
    began = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - began)
