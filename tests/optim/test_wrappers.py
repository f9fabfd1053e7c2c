"""SAM, lookahead and schedule-free in float64 against loops in numpy and against optax."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtrain.optim import lookahead, sam, schedule_free, sgd
from jaxtrain.optim.averages import evaluation_params
from jaxtrain.optim.param_rules import with_rules
from tests.conftest import examples

STEPS = 30
_rng = np.random.default_rng(3)
_q = np.linalg.qr(_rng.normal(size=(5, 5)))[0]
H = _q @ np.diag([0.5, 1.0, 2.0, 3.0, 5.0]) @ _q.T
START = 2 * _rng.normal(size=5)


def value(x: Any) -> jax.Array:
    """f(x) = x'Hx / 2 + sum(cos x), of a tree with the coordinates in two leaves."""
    flat = jnp.concatenate([x["a"], x["b"]])
    return flat @ jnp.asarray(H) @ flat / 2 + jnp.sum(jnp.cos(flat))


def slope(x: np.ndarray) -> np.ndarray:
    return H @ x - np.sin(x)


def tree(x: Any) -> Any:
    return {"a": x[:2], "b": x[2:]}


def flat(x: Any) -> np.ndarray:
    return np.concatenate([np.asarray(x["a"]), np.asarray(x["b"])], axis=-1)


def ours(tx: optax.GradientTransformationExtraArgs, evaluate: Any = evaluation_params) -> tuple[np.ndarray, np.ndarray]:
    """Return the trained and the evaluated parameters after each step."""

    def body(carry: Any, _: None) -> Any:
        x, state = carry
        now, grads = jax.value_and_grad(value)(x)
        updates, state = tx.update(grads, state, x, value=now, grad=grads, value_fn=value)
        x = optax.apply_updates(x, updates)
        return (x, state), (x, evaluate(state, x))

    with jax.enable_x64(True):
        run = jax.jit(lambda x: jax.lax.scan(body, (x, tx.init(x)), None, length=STEPS)[1])
        trained, evaluated = run(tree(jnp.asarray(START)))
        assert trained["a"].dtype == evaluated["a"].dtype == jnp.float64
        return flat(trained), flat(evaluated)


def rate(t: Any) -> Any:
    return 0.1 * 0.95**t


def schedule(t: Any) -> Any:
    return rate(jnp.asarray(t).astype(jnp.result_type(float)))


def assert_same(actual: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)
    assert np.abs(expected[-1] - expected[0]).max() > 0.1


class Spy:
    """An optimizer that records its gradient and extra arguments."""

    def __init__(self) -> None:
        self.extra: dict[str, Any] = {}
        self.gradient: Any = None

    def tx(self) -> optax.GradientTransformationExtraArgs:
        def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
            self.extra, self.gradient = extra, updates
            return jax.tree.map(lambda u, p: -0.1 * u + 0 * p, updates, params), state

        return optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), update)


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "sam": sam,
    "lookahead": lookahead,
    "schedule_free": lambda inner: schedule_free(inner, learning_rate=0.1),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrapper_forwards_all_extra_arguments_to_the_inner_optimizer(name: str):
    spy = Spy()
    tx = WRAPPERS[name](spy.tx())
    params = tree(jnp.ones(5))
    grads = jax.tree.map(jnp.ones_like, params)
    offered = {"value": jnp.float32(3), "grad": grads, "value_fn": lambda x: jnp.sum(x["a"]), "unheard_of": 7}
    tx.update(grads, tx.init(params), params, **offered)
    assert spy.extra.keys() == offered.keys()
    assert all(spy.extra[key] is offered[key] for key in offered)


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrapper_keeps_shapes_and_dtypes_of_mixed_trees(name: str):
    """Updates and state keep shapes, dtypes and empty containers; no two arrays share a buffer."""
    params = {"a": jnp.ones((2, 3), jnp.bfloat16), "b": (jnp.ones(()), optax.MaskedNode())}
    tx = WRAPPERS[name](sgd(0.1, momentum=0.5))
    grads = jax.tree.map(jnp.ones_like, params)
    state = tx.init(params)
    arrays = jax.tree.leaves((params, state))
    assert len({x.unsafe_buffer_pointer() for x in arrays}) == len(arrays)

    def objective(p: Any) -> jax.Array:
        return sum(jnp.sum(x.astype(jnp.float32) ** 2) for x in jax.tree.leaves(p))

    def shapes(tree: Any) -> Any:
        return jax.tree.map(lambda x: (x.shape, x.dtype), tree)

    update = jax.jit(lambda s: tx.update(grads, s, params, value_fn=objective))
    updates, after = update(state)
    assert shapes(updates) == shapes(params)
    assert shapes(after) == shapes(state)


# SAM


@functools.cache
def sam_path(adaptive: bool) -> np.ndarray:
    return ours(sam(sgd(schedule, momentum=0.8), rho=0.3, adaptive=adaptive))[0]


@pytest.mark.parametrize("adaptive", [False, True], ids=["sam", "asam"])
def test_sam_equals_numpy(adaptive: bool):
    x, v, path = START.copy(), np.zeros(5), []
    for t in range(STEPS):
        g = slope(x)
        up = x**2 * g / np.linalg.norm(x * g) if adaptive else g / np.linalg.norm(g)
        v = 0.8 * v + slope(x + 0.3 * up)
        x = x - rate(t) * v
        path.append(x)
    assert_same(sam_path(adaptive), np.array(path))


def test_sam_stays_at_a_stationary_point():
    """Where the gradient is 0 there is no ascent direction; SAM takes the gradient at the point itself."""
    params = {"a": jnp.zeros(2), "b": jnp.ones(3)}
    tx = sam(sgd(1.0))
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = tx.update(zeros, tx.init(params), params, value_fn=lambda x: jnp.sum(x["a"] ** 2) + 0 * x["b"].sum())
    jax.tree.map(lambda u: np.testing.assert_array_equal(u, 0.0), updates)


def test_sam_gives_the_gradient_at_the_perturbed_point_to_the_inner_optimizer():
    """On |x|^2 / 2 the worst point at distance rho lies straight outward."""
    spy, params = Spy(), tree(jnp.asarray([3.0, 0.0, 4.0, 0.0, 0.0]))
    tx = sam(spy.tx(), rho=0.5)
    tx.update(params, tx.init(params), params, value_fn=lambda x: (jnp.sum(x["a"] ** 2) + jnp.sum(x["b"] ** 2)) / 2)
    np.testing.assert_allclose(flat(spy.gradient), [3.3, 0, 4.4, 0, 0], rtol=1e-6)


def test_sam_in_float16_perturbs_correctly_for_tiny_gradients():
    """The scale rho / |g| may exceed the range of float16."""
    params = {"w": jnp.ones(4, jnp.float16)}
    spy = Spy()
    tx = sam(spy.tx(), rho=0.5)
    tiny = {"w": jnp.full(4, 6e-8, jnp.float16)}  # rho / |g| is 4e6
    tx.update(tiny, tx.init(params), params, value_fn=lambda x: jnp.sum(x["w"].astype(jnp.float32) ** 2) / 2)
    np.testing.assert_allclose(spy.gradient["w"], 1.25, rtol=1e-3)


def test_sam_without_an_objective_raises_an_error():
    tx, params = sam(sgd(0.1)), {"a": jnp.ones(2)}
    with pytest.raises(ValueError, match="value_fn=objective"):
        tx.update(params, tx.init(params), params)


# Lookahead


def lookahead_by_hand(period: int, alpha: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
    fast, slow, v, trained, evaluated = START.copy(), START.copy(), np.zeros(5), [], []
    for t in range(steps):
        v = 0.8 * v + slope(fast)
        fast = fast - rate(t) * v
        if (t + 1) % period == 0:
            slow = slow + alpha * (fast - slow)
            fast = slow
        trained.append(fast)
        evaluated.append(slow)
    return np.array(trained), np.array(evaluated)


@pytest.mark.parametrize(("period", "alpha"), [(4, 0.5), (5, 0.8), (100, 0.5)])
def test_lookahead_equals_numpy(period: int, alpha: float):
    trained, evaluated = ours(lookahead(sgd(schedule, momentum=0.8), sync_period=period, slow_step=alpha))
    expected = lookahead_by_hand(period, alpha, STEPS)
    assert_same(trained, expected[0])
    np.testing.assert_allclose(evaluated, expected[1], rtol=0, atol=1e-12)


@functools.cache
def _lookahead_of(period: int) -> Callable[[float], Any]:
    @jax.jit
    def run(alpha: jax.Array) -> Any:
        tx = lookahead(sgd(0.25), sync_period=period, slow_step=alpha)

        def body(carry: Any, _: None) -> Any:
            x, state = carry
            updates, state = tx.update(x, state, x)
            x = optax.apply_updates(x, updates)
            return (x, state), x

        return jax.lax.scan(body, (jnp.float32(1), tx.init(jnp.float32(1))), None, length=12)[1]

    return run


@examples(20)
@given(period=st.integers(1, 4), alpha=st.floats(0.0625, 1, width=32))
def test_lookahead_on_a_parabola_equals_its_closed_form(period: int, alpha: float):
    """Each step of sgd(1/4) on x^2 / 2 multiplies by 3/4; each synchronization by 1 - alpha + alpha * (3/4)^k."""
    path = _lookahead_of(period)(jnp.float32(alpha))
    rounds, rest = np.divmod(np.arange(1, 13), period)
    expected = (1 - alpha + alpha * 0.75**period) ** rounds * 0.75**rest
    np.testing.assert_allclose(path, expected, rtol=2e-5)


def test_lookahead_with_full_slow_step_equals_the_inner_optimizer():
    trained, evaluated = ours(lookahead(sgd(schedule, momentum=0.8), sync_period=1, slow_step=1.0))
    expected = lookahead_by_hand(1, 1.0, STEPS)[0]
    assert_same(trained, expected)
    assert_same(evaluated, expected)


# Schedule-free


@pytest.mark.parametrize("power", [0.0, 2.0])
def test_schedule_free_equals_numpy(power: float):
    """Defazio et al. 2024, equations 3 to 5, with a warm-up, whose first rate is 0."""

    def warmup(t: Any, minimum: Any) -> Any:
        return 0.2 * minimum(1.0, t / 5)

    def warmup_schedule(t: Any) -> Any:
        return warmup(jnp.asarray(t).astype(jnp.result_type(float)), jnp.minimum)

    tx = schedule_free(sgd(warmup_schedule), learning_rate=warmup_schedule, b1=0.85, weight_power=power)
    trained, evaluated = ours(tx)
    z, x, total, ys, xs = START.copy(), START.copy(), 0.0, [], []
    for t in range(STEPS):
        y = 0.15 * z + 0.85 * x
        z = z - warmup(t, min) * slope(y)
        weight = warmup(t, min) ** power
        total += weight
        share = weight / total if total > 0 else 0.0
        x = (1 - share) * x + share * z
        ys.append(0.15 * z + 0.85 * x)
        xs.append(x)
    assert_same(trained, np.array(ys))
    assert_same(evaluated, np.array(xs))


def test_schedule_free_equals_optax():
    theirs = optax.contrib.schedule_free(optax.sgd(0.2), learning_rate=0.2, b1=0.9)
    with jax.numpy_dtype_promotion("standard"):
        expected = ours(theirs, optax.contrib.schedule_free_eval_params)
    actual = ours(schedule_free(sgd(0.2), learning_rate=0.2, b1=0.9))
    assert_same(actual[0], expected[0])
    assert_same(actual[1], expected[1])


@pytest.mark.parametrize("name", ["lookahead", "schedule_free"])
def test_evaluation_params_keep_frozen_parameters_unchanged(name: str):
    """Trees in the state have no leaf where a parameter is frozen."""
    params = tree(jnp.asarray([1.0, 2.0, 3.0, 4.0, 5.0]) / 3)
    tx = with_rules(WRAPPERS[name](sgd(0.1)), ((".*", 1.0),), (("b", 1.0), (".*", 0.0)))
    state = tx.init(params)
    after = params
    for _ in range(2):  # the first z is the first average
        updates, state = tx.update(after, state, after)
        after = optax.apply_updates(after, updates)
    evaluated = evaluation_params(state, after)
    np.testing.assert_array_equal(evaluated["b"], params["b"])
    assert (np.asarray(after["a"]) < np.asarray(params["a"])).all()
    assert (np.asarray(evaluated["a"]) != np.asarray(after["a"])).all()


@pytest.mark.parametrize("name", ["lookahead", "schedule_free"])
def test_wrapper_without_parameters_raises_an_error(name: str):
    tx, params = WRAPPERS[name](sgd(0.1)), {"a": jnp.ones(2)}
    with pytest.raises(ValueError, match="needs the parameters"):
        tx.update(params, tx.init(params))
