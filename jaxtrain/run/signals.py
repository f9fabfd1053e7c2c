"""Turning SIGTERM and SIGINT into a wish that the loop can grant between two steps."""

import contextlib
import itertools
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import numpy as np
from jax.experimental import multihost_utils

from jaxtrain.distributed.processes import single_process

_polls = itertools.count(1)  # jax wants numbers that grow by one, over all runs of a process


class Stop:
    """Whether to stop, and by which signal.

    Several processes stop before the same dispatch, whichever got the signal. jax's preemption service sees to it: it
    handles SIGTERM from `join` on, asks all how often they have polled, and picks the next poll that none has reached.

    Attributes:
      signum: the signal that has arrived here, or None.
    """

    def __init__(self) -> None:
        self.signum: int | None = None

    def poll(self) -> int | None:
        """Return the signal by which the run stops before the next dispatch, the same in all processes, or None."""
        if single_process():
            return self.signum
        if not multihost_utils.reached_preemption_sync_point(next(_polls)):
            return None
        # a process knows of its own Ctrl-C alone, which has the lower number
        return int(multihost_utils.process_allgather(np.int32(self.signum or signal.SIGTERM)).min())


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """While it is open, the first SIGTERM or SIGINT sets the wish, and a second one acts as it did before.

    With several processes, SIGTERM is left to jax, which ignores a second one. Python runs signal handlers in the main
    thread only; elsewhere, nothing is installed.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    handled = (signal.SIGTERM, signal.SIGINT) if single_process() else (signal.SIGINT,)
    before = {s: signal.getsignal(s) for s in handled}

    def restore() -> None:
        for s in handled:
            signal.signal(s, before[s])

    def handle(signum: int, frame: FrameType | None) -> None:
        del frame
        stop.signum = signum
        restore()
        if signal.SIGTERM not in handled:
            signal.raise_signal(signal.SIGTERM)  # tells jax's service of the SIGINT

    for s in handled:
        signal.signal(s, handle)
    try:
        yield stop
    finally:
        restore()
