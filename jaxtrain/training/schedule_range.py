"""Schedules looked at over a run before it begins."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxtrain.config import Clock
from jaxtrain.optim.schedules import Schedule


def of_run(clock: Clock) -> Mapping[str, Any]:
    """What schedules may be supplied with."""
    return {"total": clock.total_steps, "examples": clock.examples, "batch_size": clock.batch_size}


def range_over_run(schedule: Schedule, clock: Clock) -> tuple[float, float]:
    """The least and the greatest value, at 1,024 steps spread over the run."""
    steps = np.unique(np.linspace(0, clock.total_steps or 0, 1024).astype(np.int32))
    values = np.asarray(jax.jit(jax.vmap(schedule))(steps))
    return float(values.min()), float(values.max())
