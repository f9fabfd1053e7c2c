"""The precision of a run: its effect on model, step, metrics and divergence; and refused combinations."""

import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxtrain
from jaxtrain.analysis.dtypes import MATMULS_AND_CONVS, dtypes, equations
from jaxtrain.config import CheckpointConfig, Config, LoggingConfig, PrecisionConfig, apply_overrides, loads
from jaxtrain.config.dump import dumps
from jaxtrain.data.loader import Batch
from jaxtrain.errors import ConfigError, Diverged
from jaxtrain.optim.loss_scale import LossScaleState, count_updates, loss_scale_state
from jaxtrain.training.plan import Plan, make_plan
from jaxtrain.training.state import TrainState, state_initializer
from tests.conftest import tiny_config

NORMED = "cifar_resnet(depth=8, norm=batch)"


def test_a_policy_name_alone_sets_the_precision_section() -> None:
    config = tiny_config(precision="bfloat16")
    assert config.precision == PrecisionConfig(policy="bfloat16")
    assert apply_overrides(tiny_config(), ["precision=bfloat16"]) == config
    both = apply_overrides(tiny_config(), ["precision=float16", "precision.matmul=highest"]).precision
    assert (both.policy, both.matmul) == ("float16", "highest")
    assert loads(dumps(config)) == config
    with pytest.raises(ConfigError, match=r"precision.policy: unknown value 'bfloat15'; did you mean 'bfloat16'"):
        apply_overrides(tiny_config(), ["precision=bfloat15"])


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("mlp(dtype=float16)", "compute in bfloat16, but the model's own option is dtype=float16"),
        ("mlp(param_dtype=bfloat16)", "keeps parameters in float32, but .*param_dtype=bfloat16"),
    ],
)
def test_a_model_dtype_that_contradicts_the_policy_is_refused(model: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make_plan(tiny_config(model=model, precision="bfloat16"))


def test_a_model_dtype_works_without_a_policy_and_with_the_same_policy() -> None:
    own = tiny_config(model="mlp(widths=[8], dtype=bfloat16)")
    tables = {dtypes(make_plan(own)), dtypes(make_plan(own.replace(precision="bfloat16")))}
    assert len(tables) == 1
    assert dict(tables.pop())["matrix multiplications and convolutions"] == "bfloat16"


@pytest.mark.parametrize("optimizer", ["sam(sgd(0.1))", "easgd(0.01, workers=2)"])
def test_float16_refuses_optimizers_that_evaluate_the_objective_again(optimizer: str) -> None:
    make_plan(tiny_config(optimizer=optimizer, precision="bfloat16"))
    with pytest.raises(ConfigError, match="no scale for its gradients; use precision=bfloat16"):
        make_plan(tiny_config(optimizer=optimizer, precision="float16"))


@pytest.mark.parametrize(("level", "found"), [("default", None), ("highest", "HIGHEST")])
def test_matrix_multiplications_of_a_step_use_the_configured_precision(level: str, found: str | None) -> None:
    plan = make_plan(tiny_config(precision=PrecisionConfig(matmul=level)))
    levels = {
        str(eqn.params["precision"])
        for eqn, _ in equations(plan.jaxpr.jaxpr)
        if eqn.primitive.name in MATMULS_AND_CONVS
    }
    assert len(levels) == 1
    assert ("HIGHEST" in levels.pop()) == (found is not None)
    assert jax.config.jax_default_matmul_precision is None


@pytest.mark.slow
def test_the_dtype_table_lists_the_dtypes_of_the_step() -> None:
    data = tiny_config().data.replace(dataset="synthetic(height=16, width=16, channels=3, train_examples=64)")
    config = tiny_config(model=NORMED, data=data.replace(validation=None, batch_size=8), precision="float16")
    assert dict(dtypes(make_plan(config))) == {
        "images": "float32",
        "parameters": "float32",
        "matrix multiplications and convolutions": "float16",
        "statistics of normalizations": "float32",
        "logits": "float32",
        "loss": "float32",
        "gradients": "float32",
        "state of the optimizer": "float32 (24), int32 (3)",
    }


def half_config(**changes: Any) -> Config:
    return tiny_config(precision=PrecisionConfig(policy="float16", **changes))


def make_batch(plan: Plan, scale: float) -> Batch:
    rng = np.random.default_rng(0)
    images = rng.normal(size=plan.abstract_batch.images.shape).astype(np.float32) * scale
    return Batch(jnp.asarray(images), jnp.asarray(rng.integers(0, 3, 16), jnp.int32))


def make_state(plan: Plan) -> TrainState:
    return jax.jit(state_initializer(plan.model, plan.optimizer.tx, plan.splits.image_shape, 0))()


def get_scale_state(state: TrainState) -> LossScaleState:
    found = loss_scale_state(state.opt_state)
    assert found is not None
    return found


def test_a_skipped_step_changes_only_the_step_and_the_loss_scale() -> None:
    """Images of 1e30 overflow in float16; images of 1 do not, and train as in float32."""
    plan = make_plan(half_config())
    state, step = make_state(plan), jax.jit(plan.train_step)
    skipped, pairs = step(state, make_batch(plan, 1e30))
    jax.tree.map(np.testing.assert_array_equal, (skipped.params, skipped.variables), (state.params, state.variables))
    jax.tree.map(np.testing.assert_array_equal, get_scale_state(skipped).inner, get_scale_state(state).inner)
    assert int(skipped.step) == 1
    assert float(get_scale_state(skipped).scale) == 2**14
    assert float(pairs["loss"][0]) == int(pairs["loss"][1]) == int(pairs["accuracy"][1]) == 0
    good, pairs = step(skipped, make_batch(plan, 1.0))
    assert np.isfinite(float(pairs["loss"][0]))
    assert int(pairs["loss"][1]) == 16
    plain = make_plan(tiny_config())
    other, _ = jax.jit(plain.train_step)(make_state(plain).replace(step=jnp.int32(1)), make_batch(plan, 1.0))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3), good.params, other.params)
    assert float(plan.optimizer.rate(good.opt_state, count_updates(good.opt_state, good.step))) == pytest.approx(
        float(
            plan.optimizer.rate(state.opt_state, count_updates(state.opt_state, jnp.int32(1)))
        )  # schedules count updates
    )


def test_an_overflow_at_the_minimum_loss_scale_gives_a_nan_loss() -> None:
    plan = make_plan(half_config(loss_scale=1.0))
    _, pairs = jax.jit(plan.train_step)(make_state(plan), make_batch(plan, 1e30))
    assert np.isnan(float(pairs["loss"][0]))


def scaled_config() -> Config:
    """Return a config of a float16 run whose loss scale doubles after five steps and after ten."""
    return half_config(loss_scale=4.0, loss_scale_interval=5).replace(
        logging=LoggingConfig(every="2 steps"), checkpoint=CheckpointConfig(every="7 steps")
    )


@pytest.fixture(scope="module")
def float16(tmp_path_factory: pytest.TempPathFactory) -> jaxtrain.Result:
    return jaxtrain.fit(scaled_config(), tmp_path_factory.mktemp("float16") / "run")


@pytest.mark.slow
def test_a_float16_run_logs_its_loss_scale_and_resumes_bitwise(float16: jaxtrain.Result, tmp_path: Path) -> None:
    records = (float16.workdir / "metrics.jsonl").read_text().splitlines()
    assert [r for r in records if '"loss_scale": 4.0' in r]
    assert [r for r in records if '"loss_scale": 16.0' in r]
    assert float(get_scale_state(float16.state).scale) == 16
    shutil.copytree(float16.workdir, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "00000012")
    again = jaxtrain.fit(scaled_config(), tmp_path / "run")  # from step 7, with the loss scale of that step
    assert again.params_sha256 == float16.params_sha256


@pytest.mark.slow
def test_float16_training_on_eight_devices_equals_training_on_one(float16: jaxtrain.Result, tmp_path: Path) -> None:
    eight = jaxtrain.fit(scaled_config().replace(devices=8), tmp_path / "eight")
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3),
        *(jax.device_get(r.state.params) for r in (float16, eight)),
    )
    assert float(get_scale_state(eight.state).scale) == float(get_scale_state(float16.state).scale) == 16


@pytest.mark.slow
def test_divergence_at_the_minimum_loss_scale_advises_bfloat16(tmp_path: Any) -> None:
    config = half_config(loss_scale=2.0).replace(optimizer="sgd(1e30)", model="mlp(widths=[8])")
    with pytest.raises(Diverged, match="precision=bfloat16: the loss scale is already at its minimum"):
        jaxtrain.fit(config, tmp_path / "run")
