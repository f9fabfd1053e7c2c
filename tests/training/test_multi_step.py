"""Multi-step dispatch gives the same bits as single steps, for any step count, event, epoch, signal or device count."""

import functools
import json
import os
import signal
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxtrain
from jaxtrain.config import CheckpointConfig, Config, EvaluationConfig, LoggingConfig, ParallelConfig
from jaxtrain.errors import ConfigError, Interrupted
from jaxtrain.reporting.display import SilentDisplay
from jaxtrain.reporting.reporter import Reporter
from jaxtrain.run import checkpoints
from jaxtrain.run.loop import Loop
from jaxtrain.training.dispatch import MultiStep, StepsPerCall, choose_steps_per_call
from jaxtrain.training.metrics import Totals
from jaxtrain.training.plan import make_plan
from jaxtrain.training.step import repeat_step
from jaxtrain.xla_cpu.unrolling import has_convolution
from tests.conftest import tiny_config
from tests.levels import slow_except
from tests.training import test_step as parts

CLOCKS = ("images_per_second",)


class Steps(SilentDisplay):
    """A display that records the steps it is updated at and sends this process a signal at one of them."""

    def __init__(self, signal_at: int = 0):
        self.seen: list[int] = []
        self._at = signal_at

    def update_step(self, step: int) -> None:
        self.seen.append(step)
        if step == self._at:
            os.kill(os.getpid(), signal.SIGTERM)


def make_config(together: int | None, **changes: object) -> Config:
    """Return a config of 12 steps, 5 an epoch: logged every 6, evaluated every 9, saved at step 11; with flips."""
    settings: dict[str, object] = {
        "logging": LoggingConfig(every="6 steps", tensorboard=False),
        "evaluation": EvaluationConfig(every="9 steps", batch_size=8),
        "checkpoint": CheckpointConfig(every="11 steps"),
        "steps_per_dispatch": together,
    }
    return tiny_config(**{**settings, **changes})


def outcome(result: jaxtrain.Result) -> list[Any]:
    """Return all results of a run except clock readings."""
    lines = [json.loads(line) for line in (result.workdir / "metrics.jsonl").read_text().splitlines()]
    told = [{k: v for k, v in line.items() if k not in CLOCKS} for line in lines]
    return [result.params_sha256, told, result.final, result.best, result.best_step]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> jaxtrain.Result:
    return jaxtrain.fit(make_config(1), tmp_path_factory.mktemp("alone") / "run")


@pytest.mark.quick_cases("4-steps1")
@pytest.mark.parametrize(
    ("together", "steps"),
    [
        (None, None),  # chosen by the clock
        (4, [1, 5, 6, 9, 10, 11, 12]),  # events: 6, 9, 11, 12; new shuffle: 5, 10
        pytest.param(50, [1, 5, 6, 9, 10, 11, 12], marks=pytest.mark.slow),
    ],
)
def test_a_run_does_not_depend_on_the_number_of_steps_per_dispatch(
    alone: jaxtrain.Result, tmp_path: Path, together: int | None, steps: list[int] | None
) -> None:
    display = Steps()
    result = jaxtrain.fit(make_config(together), tmp_path / "run", reporter=Reporter(display))
    assert outcome(result) == outcome(alone)
    assert steps is None or display.seen == steps
    assert display.seen[-1] == 12


@pytest.mark.slow
def test_sigterm_stops_between_dispatches_and_the_resumed_run_ends_the_same(
    alone: jaxtrain.Result, tmp_path: Path
) -> None:
    with pytest.raises(Interrupted, match="SIGTERM after step 5 of 12"):
        jaxtrain.fit(make_config(4), tmp_path / "run", reporter=Reporter(Steps(signal_at=5)))
    assert checkpoints.steps(tmp_path / "run" / "checkpoints") == [5]
    result = jaxtrain.fit(make_config(4), tmp_path / "run")
    assert (result.params_sha256, result.final) == (alone.params_sha256, alone.final)


@pytest.mark.slow
@pytest.mark.parametrize(
    "parallel",
    [
        ParallelConfig(fsdp=True, fsdp_min_size=8),
        pytest.param(ParallelConfig(axis_types="explicit"), marks=pytest.mark.slow),
    ],
    ids=["fsdp", "explicit"],
)
def test_multi_step_dispatch_on_eight_devices_gives_the_single_step_result(
    tmp_path: Path, parallel: ParallelConfig
) -> None:
    one, some = (jaxtrain.fit(make_config(k, devices=8, parallel=parallel), tmp_path / f"{k}") for k in (1, 4))
    assert outcome(some) == outcome(one)


@pytest.mark.slow
@pytest.mark.parametrize("devices", slow_except([1, 8], 8))
def test_multi_step_dispatch_with_batch_norm_is_exact_across_epoch_ends(devices: int) -> None:
    """23 steps of 16 of 40 examples: parameters, running statistics, momenta and totals agree to the bit."""
    # Without optimizations XLA:CPU rounds a step in a loop differently.
    jit = functools.partial(jax.jit, donate_argnums=(0, 1), compiler_options={"xla_backend_optimization_level": 1})
    run = parts.build(parts.Normed(), devices)
    expected = jax.device_get(parts.train(run._replace(dispatch=jit(run.dispatch)), 23))
    everywhere = run.layout.replicated
    program = MultiStep(jit(repeat_step(run.dispatch, everywhere), out_shardings=everywhere), everywhere)
    for together in (1, 4, 50):
        state, totals, step = run.start(), run.empty(), 0
        while step < 23:
            order = run.shuffle.order(step)
            count = min(together, 23 - step, run.shuffle.until - step)
            state, totals, tick = program(state, totals, order, run.arrays, count)
            step += count
            assert int(tick.block_until_ready()) == step
        jax.tree.map(np.testing.assert_array_equal, jax.device_get((state, totals)), expected)
    assert program.compiled._cache_size() == 1


def test_multi_step_dispatch_reports_the_first_of_several_bad_steps() -> None:
    def dispatch(state: Any, totals: Totals, order: Any, arrays: Any) -> Any:
        del order, arrays
        new = state.replace(step=state.step + 1)
        bad = (new.step == 3) | (new.step == 5)
        return (
            new,
            totals.replace(first_bad=jnp.where(bad, jnp.minimum(totals.first_bad, new.step), totals.first_bad)),
            new.step,
        )

    run = parts.build(parts.DROPPING)
    program = MultiStep(jax.jit(repeat_step(dispatch)), run.layout.replicated)
    state, totals, tick = program(run.start(), run.empty(), (), (), 7)
    assert (int(totals.first_bad), int(state.step), int(tick)) == (3, 7, 7)


def test_the_loop_makes_no_implicit_transfer_and_compiles_the_steps_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole loop, evaluation and saving included, makes explicit transfers only."""
    loop_run, seen = Loop.run, []

    def guard_transfers(loop: Loop, state: Any, stop: Any) -> Any:
        with jax.transfer_guard("disallow"):
            state = loop_run(loop, state, stop)
        assert loop.compiled.multi_step is not None
        seen.append((loop.compiled.multi_step.compiled._cache_size(), loop.compiled.dispatch._cache_size()))  # type: ignore[attr-defined]
        return state

    monkeypatch.setattr(Loop, "run", guard_transfers)
    jaxtrain.fit(make_config(None, average="ema(0.9)"), tmp_path / "run")
    assert seen == [(1, 0)]


def test_steps_per_dispatch_depend_on_convolutions_and_platform() -> None:
    dense = make_plan(tiny_config())
    assert dense.steps_per_call.fewest == 1
    assert dense.steps_per_call.most > 50
    lenet = make_plan(tiny_config(model="lenet5", data=tiny_config().data.replace(pad=14, augment=())))
    assert has_convolution(lenet.jaxpr)
    assert not has_convolution(dense.jaxpr)
    assert lenet.steps_per_call == StepsPerCall(1, 1)
    assert choose_steps_per_call(None, "", lenet.jaxpr, on_cpu=False).most > 1
    assert choose_steps_per_call(3, "", lenet.jaxpr, on_cpu=True) == StepsPerCall(3, 3)


def test_streamed_data_allows_one_step_per_dispatch_only() -> None:
    config = tiny_config()
    config = config.replace(data=config.data.replace(decode="random_crop(4)"))
    assert make_plan(config).steps_per_call == StepsPerCall(1, 1)
    with pytest.raises(
        ConfigError, match=r"4 steps in a dispatch are not possible: streamed batches arrive one at a time"
    ):
        make_plan(config.replace(steps_per_dispatch=4))


def test_pmap_allows_one_step_per_dispatch_only() -> None:
    config = tiny_config(parallel=ParallelConfig(backend="pmap"), devices=2)
    assert make_plan(config).steps_per_call == StepsPerCall(1, 1)
    with pytest.raises(ConfigError, match=r"pmap runs one step in a call.* parallel.backend=jit"):
        make_plan(config.replace(steps_per_dispatch=4))
