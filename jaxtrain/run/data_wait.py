"""Measurement of the time that devices wait for the next batch."""

import queue
import threading
import time
from typing import Any

from jaxtrain.data.device_stream import TrainingStream
from jaxtrain.data.memory import Arrays, TrainingBatches

REPORTED_WAIT = 0.1
"""The fraction of the training time from which on a run reports that the devices waited for data."""


class MeteredBatches(TrainingBatches):
    """A stream of batches that measures how long the devices were idle because of it.

    The host runs ahead of the devices, so its waiting for a batch costs nothing while the devices still run earlier
    steps. The devices are idle between the end of a step and the dispatch of the next. Of this time, the part counts in
    which the host waited for the batch. A thread waits for the end of each step and adds up these times, so
    `seconds_waited` lags behind by as much as that thread.

    Args:
      stream: the stream of batches.
    """

    def __init__(self, stream: TrainingStream):
        self._stream = stream
        self._blocked = 0.0
        self._steps: queue.SimpleQueue[tuple[Any, float, float] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._seconds = 0.0

    @property
    def seconds_waited(self) -> float:
        """The seconds that the devices have waited for batches, up to the latest step that the thread has processed."""
        return self._seconds

    def __call__(self, step: int) -> Arrays:
        """Return the batch of `step`."""
        start = time.perf_counter()
        batch = self._stream(step)
        self._blocked = time.perf_counter() - start
        return batch

    def mark_dispatched(self, tick: Any) -> None:
        """Call right after dispatching the step that consumes the last batch; `tick` is any of its outputs."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._measure, name="data wait", daemon=True)
            self._thread.start()
        self._steps.put((tick, time.perf_counter(), self._blocked))

    def _measure(self) -> None:
        ended = None
        while (step := self._steps.get()) is not None:
            tick, dispatched, blocked = step
            if ended is not None:
                self._seconds += max(min(dispatched - ended, blocked), 0.0)
            tick.block_until_ready()
            ended = time.perf_counter()

    def close(self) -> None:
        """End the thread and the stream."""
        if self._thread is not None:
            self._steps.put(None)
            self._thread.join()
            self._thread = None
        self._stream.close()


def data_wait_advice(share: float, workers: int, *, decoded: bool) -> str:
    """Return the message for a run whose devices waited for data, with settings that make it faster.

    Args:
      share: the fraction of the training time for which the devices waited, from 0 to 1.
      workers: the number of threads that read; 0 for only the main thread.
      decoded: whether the images are decoded from files such as JPEG.
    """
    threads = "the main thread" if workers == 0 else f"{workers} thread{'s' if workers > 1 else ''}"
    others = (
        "smaller images on disk, or a data set in memory (data.resize without data.decode)"
        if decoded
        else "a faster disk, or a data set in memory (without data.stream)"
    )
    return (
        f"the devices waited {100 * share:.0f} % of the training time for data, which {threads} "
        f"{'decoded' if decoded else 'read'}; to make the run faster, use more threads (data.workers, up to the number "
        f"of cores), {others}"
    )
