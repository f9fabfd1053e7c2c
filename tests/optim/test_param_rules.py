"""Rules by path: weight decay, learning-rate multipliers and freezing reach exactly the parameters they name."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxtrain.errors import ConfigError
from jaxtrain.optim import adam, adamw, sgd
from jaxtrain.optim.param_rules import add_weight_decay, path_name, values_by_path, with_rules

EVERYTHING = ((".*", 1.0),)
NOTHING = ((".*", 0.0),)
OPTIMIZERS = {
    "sgd": lambda **o: sgd(0.1, **o),
    "momentum": lambda **o: sgd(0.1, momentum=0.9, **o),
    "adam": lambda: adam(0.1),
}


def params() -> Any:
    """Return leaves of different shapes, so that the state of one is recognizable by its shape."""
    rng = np.random.default_rng(0)
    shapes = {
        "conv1": {"kernel": (3, 2), "bias": (2,)},
        "conv10": {"kernel": (5, 4)},
        "logits": {"kernel": (7, 6), "bias": (6,)},
    }
    return jax.tree.map(lambda s: rng.normal(size=s).astype(np.float32), shapes, is_leaf=lambda x: isinstance(x, tuple))


def by_name(tree: Any) -> dict[str, Any]:
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def train(tx: optax.GradientTransformationExtraArgs, steps: int = 4) -> tuple[Any, Any]:
    """Return the parameters after some steps with nonzero gradients, and the optimizer's initial state."""
    first = state = tx.init(params())
    update = jax.jit(lambda p, s: _step(tx, p, s))
    p = params()
    for _ in range(steps):
        p, state = update(p, state)
    return by_name(p), first


def _step(tx: optax.GradientTransformationExtraArgs, p: Any, state: Any) -> tuple[Any, Any]:
    grads = jax.tree.map(lambda x: jnp.cos(x) + 2, p)
    updates, state = tx.update(grads, state, p, value=jnp.float32(0))
    return optax.apply_updates(p, updates), state


def test_values_by_path_takes_the_first_rule_that_matches():
    rules = (("logits", 3.0), ("bias$", 2.0), ("^conv1/", 5.0), (".*", 7.0))
    assert by_name(values_by_path(rules, params(), "here")) == {
        "conv1/bias": 2.0,
        "conv1/kernel": 5.0,
        "conv10/kernel": 7.0,
        "logits/bias": 3.0,
        "logits/kernel": 3.0,
    }


@pytest.mark.parametrize("number", [0.5, 2])
def test_values_by_path_gives_a_single_number_to_every_parameter(number: float):
    assert set(by_name(values_by_path(number, params(), "here")).values()) == {float(number)}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ((("kernel", 1.0),), r"here: no rule covers the parameter 'conv1/bias'.*\('\.\*', VALUE\)"),
        ((), r"here: no rule covers"),
        ((("dense", 1.0), (".*", 0.0)), r"here: the rule 'dense' matches no parameter; parameters are conv1/bias"),
        (((".*", 1.0), ("bias", 0.0)), r"here: the rule 'bias' matches no parameter"),
        ((("conv(", 1.0), (".*", 0.0)), r"here: 'conv\(' is not a regular expression"),
    ],
    ids=["uncovered", "none", "unused", "shadowed", "malformed"],
)
def test_values_by_path_refuses_invalid_rules(rules: Any, message: str):
    with pytest.raises(ConfigError, match=message):
        values_by_path(rules, params(), "here", all_used=True)


def test_values_by_path_accepts_a_final_catch_all_without_matches():
    assert values_by_path((("kernel|bias", 1.0), (".*", 0.0)), params(), "here", all_used=True)


def test_values_by_path_accepts_unused_rules_on_a_subset_of_the_parameters():
    """Rules for absent parameters are allowed there; a parameter without a rule is still an error."""
    part = {"conv10": params()["conv10"]}
    assert by_name(values_by_path((("bias", 1.0), (".*", 2.0)), part, "here")) == {"conv10/kernel": 2.0}
    with pytest.raises(ConfigError, match="no rule covers"):
        values_by_path((("bias", 1.0),), part, "here")


@pytest.mark.parametrize("optimizer", [sgd, adamw])
def test_weight_decay_rules_add_decay_only_to_matching_parameters(optimizer: Any):
    """With gradients of 0 the update is the decay alone: -rate * decay * parameter."""
    tx = optimizer(0.1, weight_decay=((r"bias$", 0.0), ("^conv1/", 0.25), (".*", 0.5)))
    zeros = jax.tree.map(np.zeros_like, params())
    updates = by_name(tx.update(zeros, tx.init(params()), params())[0])
    decay = {"conv1/bias": 0, "logits/bias": 0, "conv1/kernel": 0.25, "conv10/kernel": 0.5, "logits/kernel": 0.5}
    for name, value in by_name(params()).items():
        np.testing.assert_allclose(updates[name], -0.1 * decay[name] * value, rtol=1e-6)


def test_parameters_excluded_from_decay_train_as_without_decay():
    rules, _ = train(sgd(0.1, momentum=0.9, weight_decay=((r"kernel", 0.1), (".*", 0.0))))
    without, _ = train(sgd(0.1, momentum=0.9))
    number, _ = train(sgd(0.1, momentum=0.9, weight_decay=0.1))
    for name in rules:
        np.testing.assert_array_equal(rules[name], (number if "kernel" in name else without)[name])
        assert not np.array_equal(number[name], without[name])


def test_add_weight_decay_without_parameters_raises_an_error():
    tx = add_weight_decay(0.1)
    with pytest.raises(ValueError, match="needs the parameters"):
        tx.update(params(), tx.init(params()))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_learning_rate_multiplier_scales_the_update(optimizer: str):
    """Powers of two, so that scaling is exact; one step, after which the parameters differ and the gradients too."""
    factors = (("^conv1/", 0.5), ("bias", 0.0), (".*", 4.0))
    tx = OPTIMIZERS[optimizer]()
    scaled = with_rules(tx, factors, NOTHING)
    grads = jax.tree.map(lambda x: np.cos(x) + 2, params())
    plain = by_name(tx.update(grads, tx.init(params()), params())[0])
    updates = by_name(scaled.update(grads, scaled.init(params()), params())[0])
    factor = {"conv1/bias": 0.5, "conv1/kernel": 0.5, "logits/bias": 0, "conv10/kernel": 4, "logits/kernel": 4}
    for name in plain:
        np.testing.assert_array_equal(updates[name], factor[name] * plain[name])


def test_neutral_rules_leave_optimizer_and_state_unchanged():
    plain, state = train(OPTIMIZERS["momentum"]())
    same, same_state = train(with_rules(OPTIMIZERS["momentum"](), EVERYTHING, NOTHING))
    jax.tree.map(np.testing.assert_array_equal, plain, same)
    assert jax.tree.structure(state) == jax.tree.structure(same_state)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_frozen_parameters_stay_bitwise_equal_and_have_no_state(optimizer: str):
    frozen = (("^conv1/", 1.0), ("logits/bias", 1.0), (".*", 0.0))
    trained, state = train(with_rules(OPTIMIZERS[optimizer](), EVERYTHING, frozen))
    free, free_state = train(OPTIMIZERS[optimizer]())
    start = by_name(params())
    for name in start:
        if name.startswith("conv1/") or name == "logits/bias":
            assert np.asarray(trained[name]).tobytes() == start[name].tobytes()
            assert not np.array_equal(free[name], start[name])
        else:
            np.testing.assert_array_equal(trained[name], free[name])
    shapes = {x.shape for x in jax.tree.leaves(state)}
    assert not shapes & {(3, 2), (2,), (6,)}
    if optimizer != "sgd":  # the momentum or the moments of the others are there
        assert {(5, 4), (7, 6)} <= shapes
        assert {(3, 2), (2,), (6,)} <= {x.shape for x in jax.tree.leaves(free_state)}


def test_frozen_parameters_ignore_nonfinite_gradients():
    tx = with_rules(sgd(0.1, momentum=0.9), EVERYTHING, (("conv", 1.0), (".*", 0.0)))
    grads = jax.tree.map(lambda x: np.full_like(x, np.nan), params())
    updates, _ = tx.update(grads, tx.init(params()), params())
    after = by_name(optax.apply_updates(params(), updates))
    assert np.isnan(after["logits/kernel"]).all()
    np.testing.assert_array_equal(after["conv1/kernel"], by_name(params())["conv1/kernel"])


@pytest.mark.parametrize("pattern", ["^conv1/", "kernel"])
def test_weight_decay_rule_may_match_frozen_parameters(pattern: str):
    """Other parameters decay as if none were frozen; frozen ones do not decay."""
    decay = ((pattern, 0.5), (".*", 0.25))
    frozen, _ = train(with_rules(sgd(0.1, weight_decay=decay), EVERYTHING, (("^conv1/", 1.0), (".*", 0.0))))
    free, _ = train(sgd(0.1, weight_decay=decay))
    for name, start in by_name(params()).items():
        np.testing.assert_array_equal(frozen[name], start if name.startswith("conv1/") else free[name])


@pytest.mark.parametrize("pattern", ["^conv1/", "kernel"])
def test_learning_rate_multiplier_may_match_frozen_parameters(pattern: str):
    factors = ((pattern, 0.5), (".*", 2.0))
    tx = sgd(0.1, momentum=0.9)
    frozen, _ = train(with_rules(tx, factors, (("^conv1/", 1.0), (".*", 0.0))))
    free, _ = train(with_rules(tx, factors, NOTHING))
    for name, start in by_name(params()).items():
        np.testing.assert_array_equal(frozen[name], start if name.startswith("conv1/") else free[name])
