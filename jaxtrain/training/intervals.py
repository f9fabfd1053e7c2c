"""Intervals of training: their totals are read one interval late, so that the host never waits for the device."""

import math
import time
from collections.abc import Callable
from typing import Any

import jax

from jaxtrain.config import Clock
from jaxtrain.errors import Diverged
from jaxtrain.training.metrics import NEVER, Totals, means

Record = dict[str, Any]


class Intervals:
    """Closes an interval after some steps, and hands its record to `write` when the next one closes or on `flush`."""

    def __init__(self, clock: Clock, write: Callable[[Record], None]):
        self._clock = clock
        self._write = write
        self._waiting: tuple[int, Totals, float] | None = None
        self._first_step = 0
        self._opened = 0.0

    def open(self, step: int) -> None:
        """Starts an interval, and its clock, after `step` steps."""
        self._first_step, self._opened = step, time.perf_counter()

    def close(self, step: int, totals: Totals) -> None:
        """Ends the interval at `step`, writes the one before it, and opens the next."""
        seconds = time.perf_counter() - self._opened
        rate = (step - self._first_step) * self._clock.batch_size / seconds if step > self._first_step else math.nan
        before, self._waiting = self._waiting, (step, totals, rate)
        self._read(before)
        self._first_step, self._opened = step, self._opened + seconds

    def flush(self) -> None:
        """Writes the interval that waits; this waits for the device."""
        before, self._waiting = self._waiting, None
        self._read(before)

    def _read(self, interval: tuple[int, Totals, float] | None) -> None:
        if interval is None:
            return
        step, totals, rate = interval
        fetched: Totals = jax.device_get(totals)
        bad = int(fetched.first_bad)
        if bad != NEVER:
            raise Diverged(
                f"the loss at step {bad} (epoch {self._clock.epoch(bad):.2f}) is not finite: training has diverged. "
                "The last finite checkpoint is kept. A smaller learning rate, a warm-up or another seed may help",
                bad,
            )
        record: Record = {"step": step, "epoch": round(self._clock.epoch(step), 4), "split": "train"}
        record |= means(fetched.pairs)
        if math.isfinite(fetched.learning_rate):  # an optimizer that searches along a line has none
            record["learning_rate"] = float(fetched.learning_rate)
        if math.isfinite(rate):
            record["images_per_second"] = round(rate, 1)
        self._write(record)
