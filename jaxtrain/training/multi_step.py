"""Several steps in one call of a compiled program, so that a small step is not lost between calls.

The number of steps is an argument of the program, not a part of it: one program makes one step or fifty, with the same
bits, and nothing that decides on the number (the speed of the machine, a signal, what is due next) shows in the result.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Sharding

from jaxtrain.config import Config
from jaxtrain.errors import ConfigError
from jaxtrain.sharding import laid_out

_MOST = 256


class Together(NamedTuple):
    """How many steps go into one call: at least `fewest` where that many are left, at most `most`."""

    fewest: int = 1
    most: int = 1


def steps_together(config: Config, jaxpr: Any, *, on_cpu: bool) -> Together:
    """As `steps_per_dispatch` says, or where it says nothing: many, if a loop does not slow the step itself.

    Several processes must dispatch the same number, which a clock of each cannot tell: they make one at a time, or as
    many as the config says. XLA's CPU backend gives convolutions in a loop gradients without the fast path: LeNet-5
    falls to 0.28 of its speed, ResNet-20 below 0.04. Dispatch is nothing beside a convolution there, so such steps stay
    alone.

    Args:
      config: of the run.
      jaxpr: the training step.
      on_cpu: whether the devices are CPUs.
    """
    if config.steps_per_dispatch is not None:
        return Together(config.steps_per_dispatch, config.steps_per_dispatch)
    alone = _one_by_one(config) or jax.process_count() > 1 or (on_cpu and has_convolution(jaxpr))
    return Together() if alone else Together(most=_MOST)


def check_steps_together(config: Config) -> None:
    """Raises `ConfigError` where several steps are wanted of what can only be dispatched one by one."""
    reason = _one_by_one(config)
    if reason and config.steps_per_dispatch not in (None, 1):
        raise ConfigError(f"{config.steps_per_dispatch} steps a dispatch: {reason}; leave it out", "steps_per_dispatch")


def _one_by_one(config: Config) -> str:
    """Why steps must be dispatched one by one, or ""."""
    if config.data.host or config.data.stream:
        return "batches that are streamed are there one at a time"
    if config.parallel.backend == "pmap":
        return "pmap is called for each step, and several need parallel.backend=jit"
    return ""


def has_convolution(jaxpr: Any) -> bool:
    """Whether a convolution is anywhere in `jaxpr`, closed or not."""
    return any(
        eqn.primitive.name == "conv_general_dilated" or any(map(has_convolution, _inside(eqn)))
        for eqn in getattr(jaxpr, "jaxpr", jaxpr).eqns
    )


def _inside(eqn: Any) -> list[Any]:
    values = [v for value in eqn.params.values() for v in (value if isinstance(value, tuple | list) else (value,))]
    return [v for v in values if hasattr(v, "eqns") or hasattr(getattr(v, "jaxpr", None), "eqns")]


def repeated(dispatch: Callable[..., Any], states: Any = None) -> Callable[..., Any]:
    """`(state, totals, order, arrays, count) ->` what `count` int32[] calls of `dispatch` one after the other give.

    Between them the state lies as the shardings `states` say: XLA would leave divided parameters gathered.
    """

    def several(state: Any, totals: Any, order: Any, arrays: Any, count: jax.Array) -> tuple[Any, Any, jax.Array]:
        def step(_: jax.Array, carried: tuple[Any, Any]) -> tuple[Any, Any]:
            state, totals = carried
            state, totals, _ = dispatch(state if states is None else laid_out(state, states), totals, order, arrays)
            return state, totals

        state, totals = jax.lax.fori_loop(0, count, step, (state, totals))
        return state, totals, state.step

    return several


class Several:
    """The compiled program, called with a plain number of steps.

    Args:
      compiled: `jax.jit` of what `repeated` gives.
      everywhere: the sharding of that number on the devices, where each is put once.
    """

    def __init__(self, compiled: Any, everywhere: Sharding):
        self.compiled, self._everywhere = compiled, everywhere
        self._counts: dict[int, jax.Array] = {}

    def __call__(self, state: Any, totals: Any, order: Any, arrays: Any, count: int) -> tuple[Any, Any, jax.Array]:
        """Makes `count` steps; state and totals are given away."""
        return self.compiled(state, totals, order, arrays, self.count(count))

    def count(self, steps: int) -> jax.Array:
        """The number on the devices, where it stays."""
        if steps not in self._counts:
            self._counts[steps] = jax.device_put(np.int32(steps), self._everywhere)
        return self._counts[steps]
