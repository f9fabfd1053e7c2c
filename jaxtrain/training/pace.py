"""How far the host may run ahead of the device."""

import time

import jax

_SHORT, _LONG = 0.05, 0.2
"""Seconds between two waits that are aimed at: few waits, since each costs a wake-up, and a signal answered soon."""


class Pace:
    """Waits, every few steps, for the step at which it waited before; a few is about a tenth of a second's worth.

    Without it the host would fill a queue of steps, and a signal would be answered when the queue is empty.
    With one wait a step, small steps would pay for the waking of threads.
    """

    def __init__(self, most: int):
        self._most = most
        self._every = 1
        self._since = 0
        self._earlier: jax.Array | None = None
        self._last = time.perf_counter()

    def stepped(self, tick: jax.Array) -> None:
        """Called with something the latest step computes; may wait for that of an earlier one."""
        self._since += 1
        if self._since < self._every:
            return
        self._since = 0
        if self._earlier is not None:
            self._earlier.block_until_ready()
        self._earlier = tick
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        if seconds < _SHORT:
            self._every = min(2 * self._every, self._most)
        elif seconds > _LONG:
            self._every = max(self._every // 2, 1)
