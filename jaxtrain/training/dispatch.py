"""Compiled functions that the training loop calls, and the choice of the number of steps in a call.

The number of steps is an argument of the compiled program, so one program runs one step or fifty with bitwise equal
results. The result of a run therefore does not depend on what decides the number: the speed of the machine, a signal,
or the next event.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Sharding

from jaxtrain.data.loader import TrainingLoader
from jaxtrain.distributed.sharded_step import ShardedStep
from jaxtrain.errors import ConfigError
from jaxtrain.optim.schedules.base import Rate
from jaxtrain.training.step import TrainStep, make_loop_step, repeat_step
from jaxtrain.xla_cpu.unrolling import has_convolution

_MAX_STEPS = 256


class StepsPerCall(NamedTuple):
    """Limits of the number of steps in a call: at most `most`, at least `fewest` unless fewer are left."""

    fewest: int = 1
    most: int = 1


def compile_loop_step(
    step: TrainStep, load: TrainingLoader, rate: Rate | None, devices: ShardedStep, state: Any, *, streamed: bool
) -> Any:
    """Compile the step as the loop calls it, `(state, totals, order, arrays)`; state and totals are donated.

    Args:
      step: the training step, made with the same `devices`.
      load: the loader of its batches.
      rate: the learning rate, for the metrics.
      devices: the operations by which several devices share the step.
      state: the state of the run, or its shapes.
      streamed: whether the arrays hold one batch, sharded over the devices, instead of the whole split.
    """
    return devices.compile(make_loop_step(step, load, rate, devices), state, streamed=streamed)


def compile_multi_step(
    step: TrainStep, load: TrainingLoader, rate: Rate | None, devices: ShardedStep, state: Any
) -> "MultiStep":
    """Compile a call that runs several steps; the arguments are those of `compile_loop_step`."""
    layout = devices.layout
    assert layout is not None  # see `ShardedStep.needs_single_steps`
    states = layout.of_state(state) if layout.mesh.size > 1 else None
    repeated = repeat_step(make_loop_step(step, load, rate, devices), states)
    return MultiStep(devices.compile(repeated, state, streamed=False, counted=True), layout.replicated)


class MultiStep:
    """A compiled function that runs several steps; the number of steps is a Python int.

    Args:
      compiled: the compiled function; its last argument is the number of steps, int32[].
      replicated: the sharding of that number; each number is put on the devices once.
    """

    def __init__(self, compiled: Any, replicated: Sharding):
        self.compiled, self._replicated = compiled, replicated
        self._counts: dict[int, jax.Array] = {}

    def __call__(self, state: Any, totals: Any, order: Any, arrays: Any, count: int) -> tuple[Any, Any, jax.Array]:
        """Run `count` steps; state and totals are donated."""
        return self.compiled(state, totals, order, arrays, self.count(count))

    def count(self, steps: int) -> jax.Array:
        """Return the number as an array on the devices; it is cached there."""
        if steps not in self._counts:
            self._counts[steps] = jax.device_put(np.int32(steps), self._replicated)
        return self._counts[steps]


def choose_steps_per_call(wanted: int | None, single: str, jaxpr: Any, *, on_cpu: bool) -> StepsPerCall:
    """Return the limits of the number of steps in a call: many, unless a loop slows down the step itself.

    Several processes must dispatch the same number, so they cannot choose it by their own clocks. They run one step at
    a time, or as many as the config sets. Convolutions in a loop are slow on a CPU (see xla_cpu/unrolling.py); there
    the cost of a dispatch is negligible.

    Args:
      wanted: `steps_per_dispatch` of the config.
      single: the reason why steps must be dispatched one by one; "" if there is none.
      jaxpr: the training step, traced.
      on_cpu: whether the devices are CPUs.
    """
    if wanted is not None:
        return StepsPerCall(wanted, wanted)
    alone = single or jax.process_count() > 1 or (on_cpu and has_convolution(jaxpr))
    return StepsPerCall() if alone else StepsPerCall(most=_MAX_STEPS)


def check_steps_per_call(wanted: int | None, single: str) -> None:
    """Raise `ConfigError` if the config sets several steps in a call, but steps must be dispatched one by one."""
    if single and wanted not in (None, 1):
        raise ConfigError(
            f"{wanted} steps in a dispatch are not possible: {single}; leave steps_per_dispatch out",
            "steps_per_dispatch",
        )
