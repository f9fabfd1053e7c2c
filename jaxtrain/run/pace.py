"""How far the host may run ahead of the device, and how many steps it hands over at a time."""

import time
from typing import Any

import jax

from jaxtrain.training.dispatch import StepsPerCall
from jaxtrain.xla_cpu.keep_memory import ResidentLimit

_SHORT, _LONG = 0.05, 0.2
"""Seconds between two waits that are aimed at: few waits, since each costs a wake-up, and a signal answered soon."""


class Pace:
    """Waits, every few dispatches, for the one at which it waited before; a few is about a tenth of a second's worth.

    Without it the host would fill a queue of steps, and a signal would be answered when the queue is empty.
    With one wait a step, small steps would pay for the waking of threads. For the same reason `steps`, the number to
    dispatch together, is doubled first, and the number of dispatches between two waits after that.

    Args:
      ahead: dispatches between two waits, at the most.
      limits: the limits of `steps`.
      idle_only: steps are put together only where the device has been waiting for the host. A GPU asks the host after
        each turn of a loop, so there it pays only then; on a CPU the host's work takes the device's time in any case.
    """

    def __init__(self, ahead: int, limits: StepsPerCall | None = None, *, idle_only: bool = False):
        self._ahead, self._limits, self._idle_only = ahead, limits or StepsPerCall(), idle_only
        self.steps = self._limits.fewest
        self._every = 1
        self._since = 0
        self._earlier: jax.Array | None = None
        self._last = time.perf_counter()
        self._resident = ResidentLimit()

    def stepped(self, tick: jax.Array, count: int = 1) -> None:
        """Called with something the latest dispatch computes, of `count` steps; may wait for that of an earlier one."""
        self._since += 1
        if self._since < self._every:
            return
        self._since = 0
        idle = self._waited(self._earlier)
        self._earlier = tick
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        if seconds < _SHORT and count >= self.steps:  # a dispatch that was cut short says nothing
            self._faster(idle or not self._idle_only)
        elif seconds > _LONG:
            self._slower()

    def resume(self) -> None:
        """What was done since the latest dispatch was not training."""
        self._last = time.perf_counter()

    def _waited(self, tick: Any) -> bool:
        """Waits for `tick`; whether the device was through with it before, asked only where it matters."""
        if tick is None:
            return False
        idle = self._idle_only and tick.is_ready()
        tick.block_until_ready()
        self._resident.check()
        return bool(idle)

    def _faster(self, join: bool) -> None:
        if join and self.steps < self._limits.most:
            self.steps = min(2 * self.steps, self._limits.most)
        else:
            self._every = min(2 * self._every, self._ahead)

    def _slower(self) -> None:
        if self._every > 1:
            self._every //= 2
        else:
            self.steps = max(self.steps // 2, self._limits.fewest)
