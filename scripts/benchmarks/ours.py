"""The training loop of `jaxtrain.fit`, with its files, to be advanced by some steps at a time."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from jaxtrain.config import Config, apply_overrides
from jaxtrain.data.splits import fit_normalization, load_splits
from jaxtrain.reporting.display import SilentDisplay
from jaxtrain.reporting.reporter import Reporter
from jaxtrain.run.checkpoints import Checkpointer, Progress
from jaxtrain.run.compiled_run import compile_run
from jaxtrain.run.loop import Hooks, Loop
from jaxtrain.run.signals import StopRequest
from jaxtrain.training.plan import make_plan
from jaxtrain.training.state import state_initializer

_ENDLESS = (
    *("train_for=1000000 epochs", "evaluation.every=100000 epochs", "checkpoint.every=100000 epochs"),
    *("logging.every=100 steps", "data.normalize=scale"),
)


@contextlib.contextmanager
def running(
    model: str, dataset: str, batch: int, *overrides: str, records: list[float] | None = None
) -> Iterator[Callable[[int], None]]:
    """Makes steps of `model` with SGD and momentum, and waits for them; logging every 100, neither evaluation nor save.

    The losses that are logged are added to `records`.
    """
    settings: dict[str, Any] = {
        "model": model,
        "data": {"dataset": dataset, "batch_size": batch},
        "optimizer": "sgd(0.01, momentum=0.9)",
        "train_for": "1 epoch",
        "devices": 1,
    }
    plan = make_plan(apply_overrides(Config(**settings), [*_ENDLESS, *overrides]))
    splits = load_splits(plan.splits, ("train",), 0)
    compiled = compile_run(plan, fit_normalization(plan.splits, splits["train"]), splits)
    make = state_initializer(plan.model, plan.optimizer.tx, plan.splits.image_shape, 0)
    state: Any = jax.jit(make, out_shardings=plan.layout.replicated)()
    reporter = Reporter(SilentDisplay())

    def write(record: dict[str, Any]) -> None:
        reporter.write(record)
        if records is not None:
            records.append(record["loss"])

    def advance(steps: int) -> None:
        nonlocal state
        clock = dataclasses.replace(plan.clock, total_steps=int(state.step) + steps)
        hooks = Hooks(reporter.update_step, write)
        loop = Loop(dataclasses.replace(plan, clock=clock), compiled, saver, hooks, Progress())
        state = jax.block_until_ready(loop.run(state, StopRequest()))

    with tempfile.TemporaryDirectory() as folder:
        saver = Checkpointer(Path(folder, "checkpoints"), 1)
        with contextlib.closing(saver), reporter.training(Path(folder, "m"), Path(folder, "t"), plan.clock, 0):
            yield advance
