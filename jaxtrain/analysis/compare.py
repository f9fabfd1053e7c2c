"""Comparison of models: parameters, multiply-adds, measured times, memory of a training step, published errors."""

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
from jaxtrain.models.outputs import main_logits
from jaxtrain.optim.losses import cross_entropy
from jaxtrain.optim.sgd import sgd
from jaxtrain.training.objective import Objective
from jaxtrain.training.state import TrainState
from jaxtrain.training.state import state_initializer as state_initializer
from jaxtrain.training.step import make_train_step

FEWEST, MOST = 3, 30
"""The least and the greatest number of measurements that a median is taken of."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model to compare.

    Attributes:
      name: name of the model in the comparison.
      model: the Linen module.
      shape: shape of an image: height, width, channels.
      num_classes: number of classes.
      published: published errors, as in the registry of models; the first is the one that tables show.
    """

    name: str
    model: nn.Module
    shape: tuple[int, int, int]
    num_classes: int
    published: tuple[Mapping[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurements:
    """The measured times and memory for a batch.

    Attributes:
      forward_ms: median time of a forward pass in evaluation mode, in milliseconds.
      step_ms: median time of a training step in milliseconds: forward, backward, and an update with momentum.
      step_bytes: memory of the compiled step: arguments, results and temporaries; None where the backend does not say.
    """

    forward_ms: float
    step_ms: float
    step_bytes: int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """A candidate with its counts and measurements.

    Attributes:
      candidate: the model.
      parameters: number of trained parameters.
      multiply_adds: multiply-adds of convolutions, dense layers and attention, for one image in evaluation mode.
      measured: times and memory; None where they were not measured.
    """

    candidate: Candidate
    parameters: int
    multiply_adds: int
    measured: Measurements | None = None


def published_errors(spec: ModelSpec) -> tuple[Mapping[str, Any], ...]:
    """Return the published errors of a model: those of any registered model with the same factory and options."""

    def all_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        return {**MODELS[name].preset, **options}

    wanted = all_options(spec.name, spec.options)
    for name, info in MODELS.items():
        errors: tuple[Mapping[str, Any], ...] = info.reference.get("published", ())
        if (
            errors
            and info.factory == MODELS[spec.name].factory
            and all_options(name, ModelSpec(name).options) == wanted
        ):
            return errors
    return ()


def compare(
    candidates: Sequence[Candidate], *, batch_size: int = 8, timed: bool = True, seconds: float = 10.0
) -> list[Comparison]:
    """Count parameters and multiply-adds, and measure times and memory of the compiled models.

    The programs run in turns, so that other work on the machine affects all of them alike. A first run of each is a
    warm-up and is not counted. Parameters and images are random: times do not depend on their values.

    Args:
      candidates: models to compare; all of them are in memory at once.
      batch_size: batch size of the measurements.
      timed: whether to compile and measure.
      seconds: approximate time for all measurements, as long as each program runs at least `FEWEST` times.

    Raises:
      JaxtrainError: there is not enough memory.
      ValueError: a model does not accept images of its candidate's shape.
    """
    counts = [_count(c) for c in candidates]
    if not timed:
        return counts
    try:
        programs = [_Programs(c, batch_size) for c in candidates]
        times = measure_in_turns([run for p in programs for run in (p.forward, p.step)], seconds)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise JaxtrainError(
            f"there is not enough memory for {', '.join(c.name for c in candidates)} in batches of {batch_size}; "
            "compare fewer models, or use smaller batches"
        ) from error
    return [
        dataclasses.replace(c, measured=Measurements(forward_ms=forward, step_ms=step, step_bytes=p.step_bytes))
        for c, p, forward, step in zip(counts, programs, times[::2], times[1::2], strict=True)
    ]


def _count(candidate: Candidate) -> Comparison:
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
    """A model's compiled forward pass and training step, and the arrays that they run on."""

    def __init__(self, candidate: Candidate, batch_size: int):
        rng = np.random.default_rng(0)
        model, tx = candidate.model, sgd(1e-3, momentum=0.9)
        abstract = jax.eval_shape(state_initializer(model, tx, candidate.shape, 0))
        values = jax.tree_util.tree_map_with_path(lambda path, leaf: _fill_leaf(str(path[-1]), leaf, rng), abstract)
        self._state: TrainState = jax.device_put(values)
        images = rng.standard_normal((batch_size, *candidate.shape), np.float32)
        labels = np.arange(batch_size, dtype=np.int32) % candidate.num_classes
        self._batch: Batch = jax.device_put(Batch(images, labels))  # type: ignore[arg-type]
        step = make_train_step(Objective(model, cross_entropy()), tx, seed=0)
        self._step = jax.jit(step, donate_argnums=0).lower(self._state, self._batch).compile()
        self._forward = jax.jit(_forward, static_argnums=0).lower(model, self._state, self._batch.images).compile()

    def forward(self) -> None:
        """Run the forward pass in evaluation mode, and wait for it."""
        jax.block_until_ready(self._forward(self._state, self._batch.images))

    def step(self) -> None:
        """Run a training step, and wait for it."""
        self._state, _ = jax.block_until_ready(self._step(self._state, self._batch))

    @property
    def step_bytes(self) -> int | None:
        """The bytes that a step needs, by the compiler; results written over arguments count once."""
        analysis = self._step.memory_analysis()
        if analysis is None:
            return None
        sizes = (analysis.argument_size_in_bytes, analysis.output_size_in_bytes, analysis.temp_size_in_bytes)
        return int(sum(sizes) - analysis.alias_size_in_bytes)


def _forward(model: nn.Module, state: TrainState, images: jax.Array) -> jax.Array:
    return main_logits(model.apply({"params": state.params, **state.variables}, images, train=False))


def _fill_leaf(name: str, leaf: Any, rng: np.random.Generator) -> Any:
    """Return values for a parameter with which activations neither vanish nor explode, without compiling an init."""
    if len(leaf.shape) > 1:
        return (rng.standard_normal(leaf.shape, np.float32) / math.sqrt(math.prod(leaf.shape[:-1]))).astype(leaf.dtype)
    return np.full(leaf.shape, 1 if "scale" in name or "var" in name else 0, leaf.dtype)


def measure_in_turns(runs: Sequence[Callable[[], None]], seconds: float) -> list[float]:
    """Return the median time of each program, in milliseconds; the programs run in turns."""
    for run in runs:
        run()
    rounds = [[_milliseconds(run) for run in runs]]
    count = min(max(int(1000 * seconds / sum(rounds[0])), FEWEST), MOST)
    rounds += [[_milliseconds(run) for run in runs] for _ in range(count - 1)]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def _milliseconds(run: Callable[[], None]) -> float:
    began = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - began)
