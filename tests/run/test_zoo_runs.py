"""Whole runs with full batches, plateau schedules, averages and batch statistics; and their resume."""

import dataclasses
import functools
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxtrain
from jaxtrain.config import CheckpointConfig, Config, EvaluationConfig, LoggingConfig
from jaxtrain.data.loader import normalize
from jaxtrain.data.splits import fit_normalization, load_splits
from jaxtrain.errors import Interrupted
from jaxtrain.optim.averages import evaluation_params
from jaxtrain.reporting.reporter import Reporter
from jaxtrain.run.compiled_run import compile_run
from jaxtrain.run.evaluate_run import evaluate_run
from jaxtrain.training.plan import make_plan
from jaxtrain.training.state import TrainState, state_initializer
from tests.conftest import tiny_config
from tests.levels import slow_except
from tests.run.test_fit import SignalAt
from tests.training.test_step import Normed


def config(**changes: Any) -> Config:
    data = dataclasses.replace(tiny_config().data, augment=())
    settings: dict[str, Any] = {
        "model": "mlp(widths=[8])",
        "data": data,
        "logging": LoggingConfig(every="1 steps", tensorboard=False),
        "evaluation": EvaluationConfig(every="2 steps", batch_size=8, best="loss"),
        "checkpoint": CheckpointConfig(every="5 steps"),
    }
    return tiny_config(**{**settings, **changes})


def full_batch(**changes: Any) -> Any:
    return dataclasses.replace(config().data, batch_size="all", **changes)


CONFIGS = {
    "lbfgs": config(optimizer="lbfgs(memory_size=3)", data=full_batch(), penalties="l2(1e-3)", train_for="8 steps"),
    "lbfgs-micro": config(
        optimizer="lbfgs(memory_size=3)", data=full_batch(micro_batch=24), penalties="l2(1e-3)", train_for="8 steps"
    ),
    "plateau": config(optimizer="sgd('plateau(0.1, factor=0.5, patience=0, threshold=0.9)', momentum=0.9)"),
    "ema": config(optimizer="adam(0.01)", average="ema(0.9)"),
    "lookahead": config(optimizer="lookahead(momentum(0.05), sync_period=5)"),
    "noise": config(optimizer="kfac(0.05)", gradients="gradient_noise(0.01)|delay(1)"),
}


Runs = Callable[[str], jaxtrain.Result]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Return the finished run of a config by its name; each is trained once, on first use."""
    root = tmp_path_factory.mktemp("zoo")
    return functools.cache(lambda name: jaxtrain.fit(CONFIGS[name], root / name))


def lines(run: jaxtrain.Result, split: str) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (run.workdir / "metrics.jsonl").read_text().splitlines()]
    return [r for r in records if r["split"] == split]


@pytest.mark.exhaustive_cases("lbfgs-micro")
@pytest.mark.slow
@pytest.mark.parametrize("name", slow_except(CONFIGS, "ema"))
def test_an_interrupted_run_ends_bitwise_equal_to_an_undisturbed_run(runs: Runs, name: str, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        jaxtrain.fit(CONFIGS[name], tmp_path / "run", reporter=Reporter(SignalAt(5, signal.SIGTERM)))
    again = jaxtrain.fit(CONFIGS[name], tmp_path / "run")
    assert again.params_sha256 == runs(name).params_sha256
    assert again.final == runs(name).final
    assert [r["loss"] for r in lines(again, "train")] == [r["loss"] for r in lines(runs(name), "train")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lbfgs", "lbfgs-micro"])
def test_full_batch_lbfgs_reduces_the_loss(runs: Runs, name: str) -> None:
    records = lines(runs(name), "train")
    assert [r["epoch"] for r in records] == list(range(1, 9))
    losses = [r["loss"] for r in records]  # without the penalty, which is small
    assert losses[-1] < losses[0] / 2
    assert all("learning_rate" not in r for r in records)


@pytest.mark.slow
def test_lbfgs_with_micro_batches_has_the_losses_of_the_full_batch(runs: Runs) -> None:
    losses = [[r["loss"] for r in lines(runs(name), "train")][:5] for name in ("lbfgs", "lbfgs-micro")]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


@pytest.mark.slow
def test_a_plateau_schedule_follows_the_validation_metric(runs: Runs) -> None:
    """No evaluation improves by nine tenths: each one after the first halves the learning rate."""
    rates = [r["learning_rate"] for r in lines(runs("plateau"), "train")]
    expected = [0.1 * 0.5 ** max((step - 1) // 2 - 1, 0) for step in range(1, 13)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_except(["ema", "lookahead"], "ema"))
def test_a_run_evaluates_its_averaged_parameters(runs: Runs, name: str) -> None:
    run = runs(name)
    averaged = evaluation_params(run.state.opt_state, run.state.params)
    plan = make_plan(CONFIGS[name])
    splits = load_splits(plan.splits, ("train", "test"), 0)
    normalization = fit_normalization(plan.splits, splits["train"])
    images = normalize(jnp.asarray(splits["test"].images), normalization)
    losses = [
        float(
            plan.loss(plan.model.apply({"params": p}, images, train=False), jnp.asarray(splits["test"].labels)).mean()
        )
        for p in (averaged, run.state.params)
    ]
    assert run.final["test"]["loss"] == pytest.approx(losses[0], rel=1e-5)
    assert abs(losses[0] - losses[1]) > 1e-4
    assert evaluate_run(run.workdir, "test", "last")["loss"] == pytest.approx(losses[0], rel=1e-5)


def test_batch_statistics_are_recomputed_for_averaged_parameters() -> None:
    """Compare with the mean over batches of the first layer's statistics at the averaged weights, computed in numpy."""
    plan = make_plan(config(average="polyak(0.5)"))
    model = Normed()
    tx = plan.optimizer.tx
    abstract = jax.eval_shape(state_initializer(model, tx, plan.splits.image_shape, 0))
    plan = dataclasses.replace(plan, model=model, abstract=abstract)
    splits = load_splits(plan.splits, tuple(plan.splits.sizes), 0)
    normalization = fit_normalization(plan.splits, splits["train"])
    run = compile_run(plan, normalization, splits)
    state: TrainState = jax.jit(state_initializer(model, tx, plan.splits.image_shape, 0))()
    totals = run.empty()
    for step in range(3):
        state, totals, _ = run.dispatch(state, totals, run.order.order(step), run.batches(step))
    params, variables = run.evaluated(state)
    images = np.asarray(normalize(run.batches(0).images, normalization)).reshape(80, -1)
    hidden = images @ np.asarray(params["fc1"]["kernel"])
    batches = [hidden[b::10] for b in range(10)]  # 80 images in 10 batches of 8, each spread over the split
    stats = variables["batch_stats"]["bn"]
    np.testing.assert_allclose(stats["mean"], np.mean([b.mean(axis=0) for b in batches], axis=0), atol=2e-5)
    np.testing.assert_allclose(stats["var"], np.mean([b.var(axis=0) for b in batches], axis=0), rtol=2e-4)
    assert not np.allclose(stats["mean"], state.variables["batch_stats"]["bn"]["mean"], atol=1e-3)
