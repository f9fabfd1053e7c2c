"""How long the devices had nothing to do because the next batch was not there yet."""

import queue
import threading
import time
from typing import Any

from jaxtrain.data.device_stream import TrainingStream
from jaxtrain.data.memory import Arrays, TrainingBatches

WORTH_SAYING = 0.1
"""Share of a run from which on waiting for data is worth a sentence."""


class MeteredBatches(TrainingBatches):
    """A stream of batches that is asked how long it kept the devices idle.

    The host runs ahead: that it waits for a batch says nothing as long as the devices have earlier steps to do. What
    counts is the time from the end of a step to the dispatch of the next, as far as the host spent it on waiting for
    the batch. A thread waits for the steps to end and adds up; `seconds_waited` is as late as it is.

    Args:
      stream: what gives the batches.
    """

    def __init__(self, stream: TrainingStream):
        self._stream = stream
        self._blocked = 0.0
        self._steps: queue.SimpleQueue[tuple[Any, float, float] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._seconds = 0.0

    @property
    def seconds_waited(self) -> float:
        """How long the devices have waited for batches, as far as the thread has come."""
        return self._seconds

    def __call__(self, step: int) -> Arrays:
        """Return the batch of `step`."""
        began = time.perf_counter()
        batch = self._stream(step)
        self._blocked = time.perf_counter() - began
        return batch

    def dispatched(self, tick: Any) -> None:
        """Call right after dispatching the step that consumes the last batch; `tick` is any of its outputs."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._follow, name="data wait", daemon=True)
            self._thread.start()
        self._steps.put((tick, time.perf_counter(), self._blocked))

    def _follow(self) -> None:
        ended = None
        while (step := self._steps.get()) is not None:
            tick, dispatched, blocked = step
            if ended is not None:
                self._seconds += max(min(dispatched - ended, blocked), 0.0)
            tick.block_until_ready()
            ended = time.perf_counter()

    def close(self) -> None:
        """End the thread and the work on later batches."""
        if self._thread is not None:
            self._steps.put(None)
            self._thread.join()
            self._thread = None
        self._stream.close()


def advice(share: float, workers: int, *, decoded: bool) -> str:
    """A sentence for a run whose devices waited for data for `share` of the time.

    Args:
      share: 0 to 1.
      workers: threads that read, 0 for the main one alone.
      decoded: whether there are pictures to decode.
    """
    threads = "the main thread" if workers == 0 else f"{workers} thread{'s' if workers > 1 else ''}"
    more = "more threads (data.workers, up to the cores there are)"
    others = (
        "smaller pictures on disk, or a data set that is held in memory (data.resize without data.host)"
        if decoded
        else "a faster disk, or a data set that is held in memory (without data.stream)"
    )
    return (
        f"{100 * share:.0f} % of the time the devices waited for data, which {threads} "
        f"{'decoded' if decoded else 'read'}: {more}, {others} would make the run faster"
    )
