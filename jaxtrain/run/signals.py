"""Handling of SIGTERM and SIGINT: a signal becomes a request that the loop polls between two steps."""

import contextlib
import itertools
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import numpy as np
from jax.experimental import multihost_utils

from jaxtrain.distributed.processes import single_process

_polls = itertools.count(1)  # jax requires consecutive numbers, over all runs of a process


class StopRequest:
    """A request to stop by a signal.

    Several processes stop before the same dispatch, whichever of them got the signal. jax's preemption service ensures
    this: it handles SIGTERM after `join`, asks every process for its number of polls, and chooses the next poll that
    no process has reached.

    Attributes:
      signum: the signal that arrived in this process, or None.
    """

    def __init__(self) -> None:
        self.signum: int | None = None

    def poll(self) -> int | None:
        """Return the signal by which the run stops before the next dispatch, the same in all processes, or None."""
        if single_process():
            return self.signum
        if not multihost_utils.reached_preemption_sync_point(next(_polls)):
            return None
        # only the process that got Ctrl-C knows of it; SIGINT has the lower number
        return int(multihost_utils.process_allgather(np.int32(self.signum or signal.SIGTERM)).min())


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn the first SIGTERM or SIGINT inside a `with` block into a request to stop; a second one acts as before.

    With several processes, jax handles SIGTERM and ignores a second one. Python runs signal handlers only in the main
    thread; in other threads this installs nothing.
    """
    stop = StopRequest()
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
            signal.raise_signal(signal.SIGTERM)  # passes the SIGINT to jax's service

    for s in handled:
        signal.signal(s, handle)
    try:
        yield stop
    finally:
        restore()
