"""Turning SIGTERM and SIGINT into a wish that the loop can grant between two steps."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from jaxtrain.distributed.peers import Peers

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Whether to stop, and by which signal: `signum` is None until one arrives here."""

    def __init__(self, peers: Peers | None = None):
        self.signum: int | None = None
        self._peers = peers

    def before(self, step: int) -> int | None:
        """The signal by which the run stops before the dispatch that ends with `step`; the same in all processes."""
        return self.signum if self._peers is None else self._peers.begin(step, self.signum)


@contextlib.contextmanager
def stop_on_signals(peers: Peers | None = None) -> Iterator[Stop]:
    """While it is open, the first SIGTERM or SIGINT sets the wish, and a second one acts as it did before.

    Python runs signal handlers in the main thread only; elsewhere, nothing is installed.
    """
    stop = Stop(peers)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {s: signal.getsignal(s) for s in _SIGNALS}

    def handle(signum: int, frame: FrameType | None) -> None:
        del frame
        stop.signum = signum
        for s in _SIGNALS:
            signal.signal(s, before[s])

    for s in _SIGNALS:
        signal.signal(s, handle)
    try:
        yield stop
    finally:
        for s in _SIGNALS:
            signal.signal(s, before[s])
