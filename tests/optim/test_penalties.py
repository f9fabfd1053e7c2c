"""Penalties against sums in numpy, weight decay, and the optima that scikit-learn finds for linear models."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn import linear_model

from jaxtrain.errors import ConfigError
from jaxtrain.optim import PENALTIES, sgd
from jaxtrain.optim.penalties import Penalty, elastic_net, l1, l2
from tests.conftest import examples

_rng = np.random.default_rng(0)
PARAMS = {
    "conv1": {"kernel": _rng.normal(size=(3, 2)), "bias": _rng.normal(size=2)},
    "norm": {"scale": _rng.normal(size=3)},
    "logits": {"kernel": _rng.normal(size=(4,)), "bias": _rng.normal(size=())},
}
KERNELS = np.concatenate([PARAMS["conv1"]["kernel"].ravel(), PARAMS["logits"]["kernel"]])
BIASES = np.concatenate([PARAMS["conv1"]["bias"], PARAMS["logits"]["bias"][None]])


def value(penalty: Penalty, params: Any = PARAMS) -> float:
    with jax.enable_x64(True):
        result = jax.jit(penalty)(jax.tree.map(jnp.asarray, params))
        assert result.shape == ()
        return float(result)


def test_penalty_sums_over_the_kernels():
    assert value(l1(0.3)) == pytest.approx(0.3 * np.abs(KERNELS).sum(), rel=1e-14)
    assert value(l2(0.3)) == pytest.approx(0.3 * (KERNELS**2).sum(), rel=1e-14)
    mixed = 0.2 * np.abs(KERNELS).sum() + 0.3 * (KERNELS**2).sum()
    assert value(elastic_net(0.2, 0.3)) == pytest.approx(mixed, rel=1e-14)


def test_penalty_selects_parameters_by_path():
    everything = np.concatenate([KERNELS, BIASES, PARAMS["norm"]["scale"]])
    assert value(l2(1.0, parameters=".*")) == pytest.approx((everything**2).sum(), rel=1e-14)
    assert value(l1(1.0, parameters="bias$")) == pytest.approx(np.abs(BIASES).sum(), rel=1e-14)
    assert value(elastic_net(1.0, 0.0, parameters="^norm/")) == pytest.approx(np.abs(PARAMS["norm"]["scale"]).sum())


def test_penalty_sums_mixed_dtypes_in_the_widest_dtype():
    """256 + 1 is 256 in bfloat16."""
    params = {"a": {"kernel": jnp.full((257,), 1, jnp.bfloat16)}, "b": {"kernel": jnp.ones(2, jnp.float32)}}
    total, grads = jax.value_and_grad(l2(1.0))(params)
    assert (total.dtype, float(total)) == (jnp.float32, 259.0)
    assert jax.tree.map(lambda g: (g.dtype, g.shape), grads) == jax.tree.map(lambda p: (p.dtype, p.shape), params)
    np.testing.assert_array_equal(np.asarray(grads["a"]["kernel"], np.float32), 2.0)


def test_l1_penalty_has_zero_gradient_at_zero():
    grad = jax.grad(l1(0.5))({"kernel": jnp.array([-2.0, 0.0, 3.0])})["kernel"]
    np.testing.assert_array_equal(grad, [-0.5, 0.0, 0.5])


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_l2_penalty_equals_weight_decay_of_twice_the_strength(momentum: float):
    """The test makes ten steps of gradient descent on a loss with a nonzero gradient."""
    strength, decay = 0.05, (("kernel", 0.1), (".*", 0.0))

    def loss(params: Any) -> jax.Array:
        return sum(jnp.cos(x).sum() for x in jax.tree.leaves(params))

    def train(tx: optax.GradientTransformationExtraArgs, objective: Callable[[Any], jax.Array]) -> Any:
        def body(carry: Any, _: None) -> Any:
            params, state = carry
            updates, state = tx.update(jax.grad(objective)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        start = jax.tree.map(jnp.asarray, PARAMS)
        return jax.jit(lambda p: jax.lax.scan(body, (p, tx.init(p)), None, length=10)[0][0])(start)

    with jax.enable_x64(True):
        penalized = train(sgd(0.1, momentum=momentum), lambda p: loss(p) + l2(strength)(p))
        decayed = train(sgd(0.1, momentum=momentum, weight_decay=decay), loss)
        alone = train(sgd(0.1, momentum=momentum), loss)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-14), penalized, decayed)
    assert np.abs(penalized["conv1"]["kernel"] - alone["conv1"]["kernel"]).max() > 0.01


# The optimum of mean squared error plus penalty, found by scikit-learn, has a gradient of 0 here.

X = _rng.normal(size=(40, 5))
Y = X @ np.array([2.0, -1.0, 0.0, 0.0, 0.5]) + 0.1 * _rng.normal(size=40)


def gradient_at(weights: np.ndarray, penalty: Penalty) -> np.ndarray:
    def objective(params: Any) -> jax.Array:
        return jnp.square(jnp.asarray(X) @ params["kernel"] - jnp.asarray(Y)).mean() + penalty(params)

    with jax.enable_x64(True):
        return np.asarray(jax.grad(objective)({"kernel": jnp.asarray(weights)})["kernel"])


@pytest.mark.slow
def test_l2_penalty_has_the_optimum_of_scikit_learn_ridge():
    """sklearn minimizes |Xw - y|^2 + alpha |w|^2: N times ours with strength alpha / N."""
    weights = linear_model.Ridge(alpha=0.3 * 40, fit_intercept=False).fit(X, Y).coef_
    np.testing.assert_allclose(gradient_at(weights, l2(0.3)), 0, atol=1e-12)


def test_l1_penalty_has_the_optimum_of_scikit_learn_lasso():
    """sklearn minimizes |Xw - y|^2 / (2 N) + alpha |w|_1: half of ours with strength 2 alpha."""
    weights = linear_model.Lasso(alpha=0.2, fit_intercept=False, tol=1e-13, max_iter=10_000).fit(X, Y).coef_
    assert_subgradient(weights, l1(0.4), 0.4)


def test_elastic_net_penalty_has_the_optimum_of_scikit_learn():
    """sklearn adds alpha * ratio * |w|_1 + alpha * (1 - ratio) / 2 * |w|^2 to |Xw - y|^2 / (2 N): half of ours."""
    alpha, ratio = 0.4, 0.5
    fit = linear_model.ElasticNet(alpha=alpha, l1_ratio=ratio, fit_intercept=False, tol=1e-13, max_iter=10_000)
    l1_strength = 2 * alpha * ratio
    assert_subgradient(fit.fit(X, Y).coef_, elastic_net(l1_strength, alpha * (1 - ratio)), l1_strength)


def assert_subgradient(weights: np.ndarray, penalty: Penalty, l1_strength: float) -> None:
    """Assert that 0 is a subgradient: gradient 0 at nonzero weights, at most `l1_strength` at zero weights."""
    gradient, zero = gradient_at(weights, penalty), weights == 0
    assert 0 < zero.sum() < len(weights)  # the penalty chose
    np.testing.assert_allclose(gradient[~zero], 0, atol=1e-9)
    assert (np.abs(gradient[zero]) <= l1_strength).all()


@examples(40)
@given(arrays.arrays(np.float32, 6, elements=st.floats(-100, 100, width=32)), st.floats(0, 1))
def test_elastic_net_is_the_weighted_sum_of_l1_and_l2(weights: np.ndarray, share: float):
    params = {"kernel": jnp.asarray(weights)}
    parts = share * float(l1(1.0)(params)) + (1 - share) * float(l2(1.0)(params))
    assert float(elastic_net(share, 1 - share)(params)) == pytest.approx(parts, rel=1e-5, abs=1e-6)


OPTIONS = {"l1": {"strength": 0.1}, "l2": {"strength": 0.1}, "elastic_net": {"l1": 0.1, "l2": 0.1}}


@pytest.mark.parametrize("name", PENALTIES.names())
def test_penalty_is_convex_and_refuses_invalid_patterns(name: str):
    """A penalty is nonnegative and convex along a line; patterns that match nothing or are malformed are refused."""
    penalty = PENALTIES.create(name, **OPTIONS[name])
    ends = [jax.tree.map(lambda x, f=f: jnp.asarray(f * x, jnp.float32), PARAMS) for f in (1.0, -2.0, -0.5)]
    first, last, middle = (float(penalty(p)) for p in ends)
    assert 0 <= middle <= (first + last) / 2
    with pytest.raises(ConfigError, match=r"penalties: 'dense' matches no parameter; .* conv1/bias, conv1/kernel"):
        PENALTIES.create(name, **OPTIONS[name], parameters="dense")(PARAMS)
    with pytest.raises(ConfigError, match=r"penalties: '\(' is not a regular expression"):
        PENALTIES.create(name, **OPTIONS[name], parameters="(")
