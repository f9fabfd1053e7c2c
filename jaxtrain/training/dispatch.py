"""The compiled functions that the loop calls, and how many steps go into a call.

The number of steps in a call is an argument of the program, not a part of it: one program makes one step or fifty, with
the same bits, and nothing that decides on the number (the speed of the machine, a signal, what is due next) shows in
the result.
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

_MOST = 256


class StepsPerCall(NamedTuple):
    """How many steps go into one call: at least `fewest` where that many are left, at most `most`."""

    fewest: int = 1
    most: int = 1


def compile_loop_step(
    step: TrainStep, load: TrainingLoader, rate: Rate | None, devices: ShardedStep, state: Any, *, streamed: bool
) -> Any:
    """Compile the step as the loop calls it, `(state, totals, order, arrays)`; state and totals are donated.

    Args:
      step: the training step, shared as `devices` says.
      load: what loads its batches.
      rate: the learning rate, for the metrics.
      devices: how devices share the step.
      state: the state of the run, or its shapes.
      streamed: whether the arrays are those of one batch, cut among the devices.
    """
    return devices.compile(make_loop_step(step, load, rate, devices), state, streamed=streamed)


def compile_several_steps(
    step: TrainStep, load: TrainingLoader, rate: Rate | None, devices: ShardedStep, state: Any
) -> "MultiStep":
    """Compile several steps a call, with the same arguments as `compile_loop_step`."""
    layout = devices.layout
    assert layout is not None  # see `ShardedStep.needs_single_steps`
    states = layout.of_state(state) if layout.mesh.size > 1 else None
    repeated = repeat_step(make_loop_step(step, load, rate, devices), states)
    return MultiStep(devices.compile(repeated, state, streamed=False, counted=True), layout.replicated)


class MultiStep:
    """The compiled function that makes several steps, called with a plain number of them.

    Args:
      compiled: the compiled function, whose last argument is the number of steps, int32[].
      everywhere: the sharding of that number on the devices, where each number is put once.
    """

    def __init__(self, compiled: Any, everywhere: Sharding):
        self.compiled, self._everywhere = compiled, everywhere
        self._counts: dict[int, jax.Array] = {}

    def __call__(self, state: Any, totals: Any, order: Any, arrays: Any, count: int) -> tuple[Any, Any, jax.Array]:
        """Make `count` steps; state and totals are given away."""
        return self.compiled(state, totals, order, arrays, self.count(count))

    def count(self, steps: int) -> jax.Array:
        """Return the number on the devices, where it stays."""
        if steps not in self._counts:
            self._counts[steps] = jax.device_put(np.int32(steps), self._everywhere)
        return self._counts[steps]


def choose_steps_per_call(wanted: int | None, single: str, jaxpr: Any, *, on_cpu: bool) -> StepsPerCall:
    """Return how many steps go into a call: many, where a loop does not slow the step itself.

    Several processes must dispatch the same number, which a clock of each cannot tell: they make one at a time, or as
    many as the config says. Convolutions in a loop are slow on a CPU (see xla_cpu/unrolling.py), and dispatch costs
    nothing beside them.

    Args:
      wanted: `steps_per_dispatch` of the config.
      single: why steps must be dispatched one by one, or "".
      jaxpr: the training step.
      on_cpu: whether the devices are CPUs.
    """
    if wanted is not None:
        return StepsPerCall(wanted, wanted)
    alone = single or jax.process_count() > 1 or (on_cpu and has_convolution(jaxpr))
    return StepsPerCall() if alone else StepsPerCall(most=_MOST)


def check_steps_per_call(wanted: int | None, single: str) -> None:
    """Raise `ConfigError` where several steps a call are wanted of what can only be dispatched one by one."""
    if single and wanted not in (None, 1):
        raise ConfigError(f"{wanted} steps a dispatch: {single}; leave it out", "steps_per_dispatch")
