"""Logging intervals: the host reads the totals of an interval when the next one ends, to avoid waiting for devices."""

import math
import time
from collections.abc import Callable
from typing import Any

import jax

from jaxtrain.config import RunLength
from jaxtrain.errors import Diverged
from jaxtrain.training.metrics import NO_STEP, means, unpack_totals

Record = dict[str, Any]


class LogIntervals:
    """The intervals between log events; the record of one is written when the next one closes, or by `flush`.

    Args:
      clock: the length of the run.
      write: the function that receives the records.
      waited: the function that returns the seconds that devices have waited for data so far; None for data in memory.
    """

    def __init__(self, clock: RunLength, write: Callable[[Record], None], waited: Callable[[], float] | None = None):
        self._clock = clock
        self._write = write
        self._waited = waited
        self._pending: tuple[int, jax.Array, Record] | None = None
        self._first_step = 0
        self._opened = self._waited_before = 0.0
        self.seconds = self.seconds_waited = 0.0

    def open(self, step: int) -> None:
        """Start an interval, and its time measurement, after `step` steps."""
        self._first_step, self._opened = step, time.perf_counter()
        self._waited_before = self._waited() if self._waited is not None else 0.0

    def close(self, step: int, numbers: jax.Array) -> None:
        """End the interval at `step` with the packed totals `numbers`, write the previous one, and start the next."""
        seconds = time.perf_counter() - self._opened
        before, self._pending = self._pending, (step, numbers, self._speed(step, seconds))
        self._read(before)
        self._first_step, self._opened = step, self._opened + seconds

    def _speed(self, step: int, seconds: float) -> Record:
        """Return the speed of the interval up to `step`, and its share of waiting for data."""
        if step == self._first_step:
            return {}
        self.seconds += seconds
        speed: Record = {"images_per_second": round((step - self._first_step) * self._clock.batch_size / seconds, 1)}
        if self._waited is not None:
            before, self._waited_before = self._waited_before, self._waited()
            waited = min(self._waited_before - before, seconds)
            self.seconds_waited += waited
            speed["data_wait"] = round(waited / seconds, 4)
        return speed

    def flush(self) -> None:
        """Write the last interval that ended; this waits for the device."""
        before, self._pending = self._pending, None
        self._read(before)

    def _read(self, interval: tuple[int, jax.Array, Record] | None) -> None:
        if interval is None:
            return
        step, numbers, speed = interval
        totals = unpack_totals(numbers)
        bad = int(totals.first_bad)
        if bad != NO_STEP:
            scaled = math.isfinite(totals.loss_scale)
            raise Diverged(
                f"the loss at step {bad} (epoch {self._clock.epoch(bad):.2f}) is not finite: training has diverged. "
                "The last finite checkpoint is kept. Try a smaller learning rate, a warm-up or another seed"
                + (", or precision=bfloat16: the loss scale is already at its minimum" if scaled else ""),
                bad,
            )
        record: Record = {"step": step, "epoch": round(self._clock.epoch(step), 4), "split": "train"}
        record |= means(totals.pairs)
        if math.isfinite(totals.learning_rate):  # an optimizer with a line search has none
            record["learning_rate"] = float(totals.learning_rate)
        if math.isfinite(totals.loss_scale):
            record["loss_scale"] = float(totals.loss_scale)
        self._write(record | speed)
