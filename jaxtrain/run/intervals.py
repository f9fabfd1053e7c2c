"""Intervals of training: their totals are read one interval late, so that the host never waits for the device."""

import math
import time
from collections.abc import Callable
from typing import Any

import jax

from jaxtrain.config import Clock
from jaxtrain.errors import Diverged
from jaxtrain.training.metrics import NEVER, fetched, means

Record = dict[str, Any]


class Intervals:
    """Closes an interval after some steps, and hands its record to `write` when the next one closes or on `flush`.

    Args:
      clock: of the run.
      write: takes the records.
      waited: seconds for which the devices have waited for data up to now; None where it is all there.
    """

    def __init__(self, clock: Clock, write: Callable[[Record], None], waited: Callable[[], float] | None = None):
        self._clock = clock
        self._write = write
        self._waited = waited
        self._waiting: tuple[int, jax.Array, Record] | None = None
        self._first_step = 0
        self._opened = self._waited_before = 0.0
        self.seconds = self.seconds_waited = 0.0

    def open(self, step: int) -> None:
        """Starts an interval, and its clock, after `step` steps."""
        self._first_step, self._opened = step, time.perf_counter()
        self._waited_before = self._waited() if self._waited is not None else 0.0

    def close(self, step: int, numbers: jax.Array) -> None:
        """Ends the interval at `step`, whose totals are in `numbers`, writes the one before it, and opens the next."""
        seconds = time.perf_counter() - self._opened
        before, self._waiting = self._waiting, (step, numbers, self._speed(step, seconds))
        self._read(before)
        self._first_step, self._opened = step, self._opened + seconds

    def _speed(self, step: int, seconds: float) -> Record:
        """What a clock says of the steps up to `step`."""
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
        """Writes the interval that waits; this waits for the device."""
        before, self._waiting = self._waiting, None
        self._read(before)

    def _read(self, interval: tuple[int, jax.Array, Record] | None) -> None:
        if interval is None:
            return
        step, numbers, speed = interval
        totals = fetched(numbers)
        bad = int(totals.first_bad)
        if bad != NEVER:
            scaled = math.isfinite(totals.loss_scale)
            raise Diverged(
                f"the loss at step {bad} (epoch {self._clock.epoch(bad):.2f}) is not finite: training has diverged. "
                "The last finite checkpoint is kept. A smaller learning rate, a warm-up or another seed may help"
                + (", and so may precision=bfloat16: the scale of the loss is as small as it gets" if scaled else ""),
                bad,
            )
        record: Record = {"step": step, "epoch": round(self._clock.epoch(step), 4), "split": "train"}
        record |= means(totals.pairs)
        if math.isfinite(totals.learning_rate):  # an optimizer that searches along a line has none
            record["learning_rate"] = float(totals.learning_rate)
        if math.isfinite(totals.loss_scale):
            record["loss_scale"] = float(totals.loss_scale)
        self._write(record | speed)
