"""The pace of dispatches: how far the host runs ahead of the device, and how many steps it dispatches at a time."""

import time
from typing import Any

import jax

from jaxtrain.training.dispatch import StepsPerCall
from jaxtrain.xla_cpu.keep_memory import ResidentLimit

_SHORT, _LONG = 0.05, 0.2
"""Target range in seconds of the time between two waits: short enough to react to signals, with few thread wake-ups."""


class Pace:
    """A throttle of dispatches: after some of them, it waits until the device reaches an earlier one.

    The time between two waits is about a tenth of a second. Without waits the host would fill a queue of steps, and
    would react to a signal only when the queue is empty. With a wait after every small step, the wake-ups of threads
    would take too much time. If waits are too frequent, `steps`, the number of steps in a dispatch, doubles first; at
    its limit, the number of dispatches between two waits doubles.

    Args:
      ahead: the largest number of dispatches between two waits.
      limits: the limits of `steps`.
      idle_only: whether `steps` grows only if the device was idle before the wait. This is for GPUs: a GPU asks the
        host after each iteration of a loop, so a loop helps only then. On a CPU the host's work always takes time from
        the device.

    Attributes:
      steps: the number of steps to put into the next dispatch.
    """

    def __init__(self, ahead: int, limits: StepsPerCall | None = None, *, idle_only: bool = False):
        self._ahead, self._limits, self._idle_only = ahead, limits or StepsPerCall(), idle_only
        self.steps = self._limits.fewest
        self._every = 1
        self._since = 0
        self._earlier: jax.Array | None = None
        self._last = time.perf_counter()
        self._resident = ResidentLimit()

    def throttle(self, tick: jax.Array, count: int = 1) -> None:
        """Call after each dispatch; this may wait for an earlier dispatch.

        Args:
          tick: any output of the latest dispatch that is not donated.
          count: the number of steps in that dispatch.
        """
        self._since += 1
        if self._since < self._every:
            return
        self._since = 0
        idle = self._wait_for(self._earlier)
        self._earlier = tick
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        if seconds < _SHORT and count >= self.steps:  # a shorter dispatch gives no information
            self._faster(idle or not self._idle_only)
        elif seconds > _LONG:
            self._slower()

    def resume(self) -> None:
        """Restart the time measurement, so that the time since the latest dispatch does not count as training."""
        self._last = time.perf_counter()

    def _wait_for(self, tick: Any) -> bool:
        """Wait for `tick`; with `idle_only`, return whether the device had already computed it, otherwise False."""
        if tick is None:
            return False
        idle = self._idle_only and tick.is_ready()
        tick.block_until_ready()
        self._resident.check()
        return bool(idle)

    def _faster(self, more_steps: bool) -> None:
        if more_steps and self.steps < self._limits.most:
            self.steps = min(2 * self.steps, self._limits.most)
        else:
            self._every = min(2 * self._every, self._ahead)

    def _slower(self) -> None:
        if self._every > 1:
            self._every //= 2
        else:
            self.steps = max(self.steps // 2, self._limits.fewest)
