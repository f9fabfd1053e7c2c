"""Meshes with explicit axes: models train on them as on one device; models that cannot are refused."""

from pathlib import Path

import jax
import numpy as np
import pytest

from jaxtrain.config import Config, DataConfig, ParallelConfig, apply_overrides
from jaxtrain.errors import ConfigError
from jaxtrain.run.evaluate_run import evaluate_run
from jaxtrain.run.fit import fit
from jaxtrain.training.plan import make_plan
from tests.conftest import tiny_config
from tests.levels import slow_except

IMAGES = "synthetic(height={side}, width={side}, num_classes=4, train_examples=80, test_examples=16)"


def recipe(model: str, *overrides: str, side: int = 16) -> Config:
    data = DataConfig(dataset=IMAGES.format(side=side), batch_size=16, validation="16 examples")
    run = tiny_config(model=model, data=data, train_for="3 steps", devices=8, parallel=ParallelConfig())
    return apply_overrides(run, overrides)


VIT = "vit(patch=8, width=8, depth=1, heads=2, mlp_width=8)"
FSDP = "parallel.fsdp=true parallel.fsdp_min_size=64"


KINDS = [
    "lenet5",
    "cifar_resnet(depth=8)",
    VIT,
    "cifar_densenet(depth=10, bottleneck=false)",
    "wide_resnet(depth=10, width=1)",
    "maxout_mlp(widths=[8])",
]


@pytest.mark.quick_cases("*maxout*")
@pytest.mark.parametrize("model", slow_except(KINDS, "cifar_resnet(depth=8)", VIT, "maxout_mlp(widths=[8])"))
@pytest.mark.parametrize("fsdp", slow_except(["parallel.fsdp=false", FSDP], FSDP))
def test_models_of_every_kind_can_be_planned_on_explicit_axes(model: str, fsdp: str) -> None:
    make_plan(recipe(model, "parallel.axis_types=explicit", *fsdp.split()))


@pytest.mark.slow
@pytest.mark.parametrize("model", slow_except(["mlp(widths=[8])", "lenet5", VIT], "mlp(widths=[8])"))
def test_a_run_on_explicit_axes_equals_one_on_automatic_axes(model: str, tmp_path: Path) -> None:
    losses = {}
    for axes in ("auto", "explicit"):
        found = fit(recipe(model, f"parallel.axis_types={axes}"), tmp_path / axes)
        losses[axes] = [found.final[split]["loss"] for split in ("train", "validation", "test")]
    np.testing.assert_allclose(losses["explicit"], losses["auto"], rtol=1e-5)


@pytest.mark.parametrize("size", [4, 5])
def test_micro_batches_on_explicit_axes_must_divide_among_the_devices(size: int) -> None:
    with pytest.raises(
        ConfigError, match=r"data\.micro_batch: .* do not divide evenly among 8 devices.*choose one of 8, 16"
    ):
        make_plan(recipe("mlp(widths=[8])", "parallel.axis_types=explicit", f"data.micro_batch={size}"))
    make_plan(recipe("mlp(widths=[8])", "parallel.axis_types=explicit", "data.micro_batch=8"))


def test_a_model_that_cannot_be_sharded_is_refused_in_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    def reshape_batch(x: jax.Array, kind: str = "max", window: int = 2) -> jax.Array:
        n, h, w, c = x.shape
        return x.reshape(n, h // window, window, w // window, window, c).max(axis=(2, 4))

    monkeypatch.setattr("jaxtrain.models.lenet.pool", reshape_batch)
    with pytest.raises(ConfigError, match=r"parallel\.axis_types: the model cannot be sharded over .*use auto"):
        make_plan(recipe("lenet5", "parallel.axis_types=explicit"))


@pytest.mark.slow
def test_a_run_with_a_model_axis_can_be_evaluated_on_one_device(tmp_path: Path) -> None:
    run = recipe("mlp(widths=[32])", "parallel.model=2", "parallel.model_min_width=16", side=8)
    found = fit(run, tmp_path)
    assert evaluate_run(tmp_path, "test", "last")["loss"] == pytest.approx(found.final["test"]["loss"], rel=1e-5)
