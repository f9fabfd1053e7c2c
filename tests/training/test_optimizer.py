"""From a config to its optimizer: rates, wrappers, scaling, layer decay, averages, and refused combinations."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxtrain.config import Config, DataConfig, OptimizerSpec, ParametersConfig
from jaxtrain.errors import ConfigError
from jaxtrain.optim import OPTIMIZERS
from jaxtrain.optim.averages import evaluation_params
from jaxtrain.training.optimizer import find_weight_decay, optimizer_requirements, unwrap_specs
from jaxtrain.training.plan import Plan, make_plan
from tests.conftest import tiny_config

PLAIN = {"model": "mlp(widths=[8])"}


def plan_with(**changes: Any) -> Plan:
    return make_plan(tiny_config(**{**PLAIN, **changes}))


def with_data(config: Config, **changes: Any) -> DataConfig:
    return dataclasses.replace(config.data, **changes)


def compute_updates(plan: Plan, steps: int = 1) -> Any:
    """Return updates, state and parameters after `steps` steps with gradients of 1, starting from parameters of 1."""
    params = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), plan.abstract.params)
    state = plan.optimizer.tx.init(params)

    @jax.jit
    def step(state: Any, params: Any) -> Any:
        updates, state = plan.optimizer.tx.update(jax.tree.map(jnp.ones_like, params), state, params)
        return updates, state, optax.apply_updates(params, updates)

    for _ in range(steps):
        updates, state, params = step(state, params)
    return updates, state, params


def rate_at(plan: Plan, step: int) -> float:
    params = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), plan.abstract.params)
    state = plan.optimizer.tx.init(params)
    rate = plan.optimizer.rate
    return float("nan") if rate is None else float(rate(state, jnp.int32(step)))


@pytest.mark.parametrize(
    ("optimizer", "rate"),
    [
        ("sgd(0.1)", 0.1),
        ("sgd('linear(0.5)')", 0.5),
        ("sam(sgd(0.2), rho=0.1)", 0.2),
        ("lookahead(sam(sgd('constant(0.3)')))", 0.3),
        ("sgd('plateau(0.4, patience=2)')", 0.4),
    ],
)
def test_a_plan_knows_the_learning_rate_inside_wrappers_and_schedules(optimizer: str, rate: float) -> None:
    assert rate_at(plan_with(optimizer=optimizer), 0) == pytest.approx(rate)


@pytest.mark.parametrize("rate", ["0.1", "'constant(0.1)'", "'plateau(0.1, patience=2)'"])
def test_linear_scaling_multiplies_every_kind_of_learning_rate(rate: str) -> None:
    """Goyal et al. 2017: a rate written for a batch of 4 is four times as high at the 16 of this run."""
    plain, scaled = plan_with(optimizer=f"sgd({rate})"), plan_with(optimizer=f"sgd({rate})", base_batch_size=4)
    assert rate_at(scaled, 0) == pytest.approx(4 * rate_at(plain, 0))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, 4 * b, rtol=1e-6),
        compute_updates(scaled)[0],
        compute_updates(plain)[0],
    )


def test_an_optimizer_without_a_learning_rate_reports_none() -> None:
    config = tiny_config(**PLAIN)
    plan = plan_with(optimizer="lbfgs", data=with_data(config, batch_size="all", augment=()))
    assert np.isnan(rate_at(plan, 0))


def test_layer_decay_lowers_the_learning_rate_with_distance_from_the_output() -> None:
    plan = make_plan(
        tiny_config(model="mlp(widths=[8, 6])", optimizer="sgd(1.0)", parameters=ParametersConfig(layer_decay=0.5))
    )
    updates = {k: float(v["kernel"][0, 0]) for k, v in compute_updates(plan)[0].items()}
    assert sorted(updates.values()) == pytest.approx([-1.0, -0.5, -0.25])
    assert updates["fc1"] == pytest.approx(-0.25)


def test_gradient_transforms_run_before_the_optimizer_in_the_given_order() -> None:
    plan = plan_with(optimizer="sgd(1.0)", gradients="clip_by_value(0.5)|clip_by_norm(0.1)")
    updates = compute_updates(plan)[0]
    assert optax.tree.norm(updates) == pytest.approx(0.1, rel=1e-5)


def test_the_average_follows_the_parameters_and_is_used_for_evaluation() -> None:
    plan = plan_with(optimizer="sgd(1.0)", average="polyak(0.5)")
    assert plan.averages
    _, state, params = compute_updates(plan, 2)  # 1, then 0, then -1
    averaged = evaluation_params(state, params)
    jax.tree.map(lambda p: np.testing.assert_allclose(p, -1), params)
    jax.tree.map(lambda a: np.testing.assert_allclose(a, 0.5 * (0.5 * 1 + 0.5 * 0) + 0.5 * -1), averaged)


def test_lbfgs_keeps_no_state_for_frozen_parameters() -> None:
    """Frozen parameters are not part of the search but remain part of the objective."""
    frozen = (("fc1", 1.0), (".*", 0.0))
    config = tiny_config(**PLAIN)
    plan = plan_with(
        optimizer="lbfgs",
        data=with_data(config, batch_size="all", augment=()),
        parameters=ParametersConfig(frozen=frozen),
    )
    sizes = {x.shape[1:] for x in jax.tree.leaves(plan.abstract.opt_state) if x.ndim > 1}
    assert (8, 3) in sizes
    assert (16, 8) not in sizes


def test_a_wrapper_has_the_requirements_of_its_inner_optimizer() -> None:
    spec = OptimizerSpec.parse("lookahead(lbfgs(memory_size=3))")
    assert [x.name for x in unwrap_specs(spec)] == ["lookahead", "lbfgs"]
    assert optimizer_requirements(spec) == {"full batch"}
    assert find_weight_decay(OptimizerSpec.parse("sam(sgd(0.1, weight_decay=0.3))")) == 0.3


@pytest.mark.parametrize(
    ("changes", "path", "says"),
    [
        ({"optimizer": "lbfgs"}, "data.batch_size", "data.batch_size=all"),
        ({"optimizer": "lookahead(bfgs)"}, "data.batch_size", "the same objective"),
        ({"optimizer": "newton", "data": {"batch_size": "all"}}, "data.augment", "augmentation changes it"),
        (
            {
                "optimizer": "newton",
                "data": {"batch_size": "all", "augment": (), "augment_until": "50%", "augment_after": "flip_lr"},
            },
            "data.augment_after",
            "set data.augment_after=[]",
        ),
        (
            {
                "optimizer": "lbfgs",
                "data": {"batch_size": "all", "augment": ()},
                "model": "mlp(widths=[8], dropout_rate=0.1)",
            },
            "model",
            "dropout_rate=0",
        ),
        (
            {"optimizer": "lbfgs", "data": {"batch_size": "all", "augment": ()}, "gradients": "clip_by_norm(1.0)"},
            "gradients",
            "gradients=[]",
        ),
        ({"optimizer": "kfac(0.1)", "loss": "hinge"}, "loss", "softmax"),
        ({"optimizer": "kfac(0.1)", "data": {"micro_batch": 4}}, "data.micro_batch", "leave data.micro_batch out"),
        pytest.param(
            {"optimizer": "kfac(0.1)", "model": "googlenet", "data": {"resize": (80, 80)}},
            "model",
            "googlenet has auxiliary heads in training; turn them off, for example with model.auxiliary=false",
            marks=pytest.mark.slow,
        ),
        ({"optimizer": "sgd('plateau(0.1)')", "data": {"validation": None}}, "optimizer.learning_rate", "validation"),
        ({"optimizer": "momentum(0.1, momentum='constant(1.5)')"}, "optimizer.momentum", "[0, 1)"),
        ({"optimizer": "easgd(0.1, workers=3)"}, "optimizer", "does not divide evenly among 3 workers"),
        (
            {"optimizer": "lookahead(sgd(0.1))", "parameters": ParametersConfig(layer_decay=0.5)},
            "parameters.layer_decay",
            "jointly",
        ),
        (
            {"optimizer": "sgd(0.1)", "parameters": ParametersConfig(layer_decay=0.5, learning_rate=((".*", 2.0),))},
            "parameters.layer_decay",
            "either",
        ),
        ({"optimizer": "sgd('cosine(0.1, warmup=\"20 steps\")')"}, "optimizer.learning_rate", "warm-up"),
    ],
    ids=lambda x: str(x.get("optimizer")) if isinstance(x, dict) else "",
)
def test_a_config_that_cannot_train_is_refused_with_the_reason(changes: dict[str, Any], path: str, says: str) -> None:
    config = tiny_config(**PLAIN)
    settings = {**changes}
    if "data" in settings:
        settings["data"] = with_data(config, **settings["data"])
    with pytest.raises(ConfigError) as error:
        plan_with(**settings)
    assert error.value.path.startswith(path)
    assert says in str(error.value)


@pytest.mark.slow
def test_every_optimizer_can_be_planned_from_a_config() -> None:
    """Each entry with its required arguments only passes every check of shapes."""
    full = with_data(tiny_config(), batch_size="all", augment=())
    for name, info in OPTIMIZERS.items():
        text = name
        if "inner" in info.parameters():
            rate = ", learning_rate=0.1" if "learning_rate" in info.parameters() else ""
            text = f"{name}(sgd(0.1){rate})"
        elif "learning_rate" in info.parameters():
            text = f"{name}(0.1)"
        data = {"data": full} if info.requires == "full batch" else {}
        plan = plan_with(optimizer=text, **data)
        assert jax.tree.leaves(plan.abstract.params), name
