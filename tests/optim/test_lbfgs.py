"""L-BFGS against SciPy, scikit-learn and numpy, and what it shares with BFGS and nonlinear conjugate gradients."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from jaxtrain.optim import bfgs, lbfgs, nonlinear_cg
from tests.conftest import slow
from tests.optim.problems import VALLEY_START, minimize, rosenbrock, steps_to, wavy

RULES: dict[str, tuple[Any, str]] = {
    "lbfgs": (lbfgs, "L-BFGS-B"),
    "bfgs": (bfgs, "BFGS"),
    "polak_ribiere": (nonlinear_cg, "CG"),
    "fletcher_reeves": (functools.partial(nonlinear_cg, method="fletcher_reeves"), "CG"),
}
rules = pytest.mark.parametrize("rule", RULES)
rules_and_searches = pytest.mark.parametrize(
    ("rule", "search"),
    [
        *((rule, "strong_wolfe") for rule in RULES),
        ("lbfgs", "armijo"),
        *(slow(rule, "armijo") for rule in RULES if rule != "lbfgs"),
    ],
)
first_rule = pytest.mark.parametrize("rule", ["lbfgs", *(slow(rule) for rule in RULES if rule != "lbfgs")])
"""For code that all rules share: a run without slow tests covers one rule."""


@pytest.mark.quick_cases("lbfgs")
@rules
def test_line_search_methods_need_few_more_iterations_than_scipy(rule: str):
    optimize = pytest.importorskip("scipy.optimize", reason="the oracle is SciPy")
    make, method = RULES[rule]
    with jax.enable_x64(True):
        trace = minimize(make(), rosenbrock, VALLEY_START, 60)
        theirs: list[float] = []
        optimize.minimize(
            optimize.rosen,
            VALLEY_START,
            jac=optimize.rosen_der,
            method=method,
            callback=lambda x: theirs.append(optimize.rosen(x)),
        )
    assert steps_to(trace.values, 1e-9) <= 1.25 * steps_to(np.asarray(theirs), 1e-9)
    assert trace.values[-1] < 1e-18
    assert np.all(np.diff(trace.values) <= 0)


@pytest.mark.quick_cases("lbfgs-strong_wolfe")
@rules_and_searches
def test_line_search_methods_never_increase_a_nonconvex_objective(rule: str, search: Any):
    """1000 updates: 25 from each of 40 random points, each on a random function of its own."""
    tx, rng = RULES[rule][0](line_search=search), np.random.default_rng(5)

    def run(x: jax.Array, shape: jax.Array, waves: jax.Array, phase: jax.Array) -> Any:
        def value_fn(x: jax.Array) -> jax.Array:
            bowl = 0.05 * jnp.sum((shape @ x) ** 2) + 0.02 * jnp.sum(x**4)
            return bowl + 2 * jnp.sum(jnp.cos(waves * x + phase)) + 0.1 * jnp.sum(x[1:] * x[:-1] ** 2)

        def body(carry: Any, _: None) -> Any:
            x, state = carry
            value, grad = jax.value_and_grad(value_fn)(x)
            update, state = tx.update(grad, state, x, value=value, grad=grad, value_fn=value_fn)
            _, bend = jax.jvp(jax.grad(value_fn), (x,), (update,))
            return (x + update, state), (grad @ update, value, value_fn(x + update), update @ bend, update != 0)

        return jax.lax.scan(body, (x, tx.init(x)), None, length=25)[1]

    with jax.enable_x64(True):
        drawn = (2 * rng.normal(size=(40, 5)), rng.normal(size=(40, 5, 5)))
        waves = (rng.uniform(0.5, 4, (40, 5)), rng.uniform(0, 6, (40, 5)))
        slopes, values, after, bends, moved = map(np.asarray, jax.jit(jax.vmap(run))(*drawn, *waves))
    moved = moved.any(axis=-1)
    assert moved[:, :5].all()
    assert (slopes[moved] < 0).all()
    assert (after <= values + 8 * np.finfo(float).eps * np.abs(values)).all()  # rounding, which the search cannot see
    assert (bends[:, :5] < 0).mean() > 0.02  # often enough the function bends down along the step


@functools.cache
def logistic() -> tuple[Any, float]:
    """Full-batch multinomial logistic regression on the digits, and the loss that scikit-learn ends at.

    scikit-learn minimizes C * sum of losses + |w|^2 / 2 and leaves the intercepts alone.
    """
    images, labels = load_digits(return_X_y=True)
    images, penalty = images / 16, 1e-3
    inputs, targets = jnp.asarray(images), jnp.asarray(labels)

    def value_fn(x: jax.Array) -> jax.Array:
        kernel, bias = x[:640].reshape(64, 10), x[640:]
        losses = optax.softmax_cross_entropy_with_integer_labels(inputs @ kernel + bias[None], targets)
        return losses.mean() + penalty / 2 * jnp.sum(kernel**2)

    with threadpool_limits(1):  # more threads than free cores make it thirty times slower
        fitted = LogisticRegression(C=1 / (penalty * len(labels)), tol=1e-10, max_iter=5000).fit(images, labels)
    best = jnp.concatenate([jnp.asarray(fitted.coef_.T).reshape(-1), jnp.asarray(fitted.intercept_)])
    return value_fn, float(value_fn(best))


@pytest.mark.slow
def test_lbfgs_reaches_the_scikit_learn_loss_with_no_more_evaluations_than_scipy():
    optimize = pytest.importorskip("scipy.optimize", reason="the oracle is SciPy's L-BFGS-B")
    with jax.enable_x64(True):
        value_fn, best = logistic()
        trace = minimize(lbfgs(memory_size=10), value_fn, np.zeros(650), 150)
        value_and_grad = jax.jit(jax.value_and_grad(value_fn))
        evaluated: list[float] = []

        def theirs(x: np.ndarray) -> tuple[float, np.ndarray]:
            value, grad = value_and_grad(x)
            evaluated.append(float(value))
            return float(value), np.asarray(grad)

        optimize.minimize(theirs, np.zeros(650), jac=True, method="L-BFGS-B", options={"maxcor": 10, "ftol": 0})
        needed = steps_to(trace.values, best + 1e-6)
    assert abs(trace.values[-1] - best) < 1e-6
    assert trace.evaluations[needed - 1] + 1 <= steps_to(np.asarray(evaluated), best + 1e-6)  # and one at the start


@pytest.mark.parametrize("search", ["strong_wolfe", "armijo"])
def test_lbfgs_counts_its_function_evaluations(search: Any):
    made = []

    def value_fn(x: jax.Array) -> jax.Array:
        jax.debug.callback(lambda: made.append(1))
        return rosenbrock(x)

    tx = lbfgs(line_search=search)
    x = jnp.asarray(VALLEY_START, jnp.float32)
    state = tx.init(x)
    value_and_grad = jax.jit(jax.value_and_grad(rosenbrock))
    compiled = jax.jit(lambda g, s, p, v: tx.update(g, s, p, value=v, value_fn=value_fn))
    for _ in range(5):
        value, grad = value_and_grad(x)
        update, state = compiled(grad, state, x, value)
        x = x + update
    jax.effects_barrier()
    assert len(made) == int(state.evaluations) >= 5


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["lbfgs", slow("bfgs"), slow("polak_ribiere")])
def test_optax_value_and_grad_from_state_reuses_the_line_search_result(rule: str):
    """`optax.value_and_grad_from_state` takes what the line search ended with, instead of evaluating again."""
    tx = RULES[rule][0]()

    @jax.jit
    def step(x: jax.Array, state: Any) -> Any:
        value, grad = optax.value_and_grad_from_state(rosenbrock)(x, state=state)
        update, state = tx.update(grad, state, x, value=value, grad=grad, value_fn=rosenbrock)
        return x + update, state

    with jax.enable_x64(True):
        x = jnp.asarray(VALLEY_START)
        state, path = tx.init(x), []
        for _ in range(10):
            x, state = step(x, state)
            path.append(x)
        np.testing.assert_allclose(path, minimize(tx, rosenbrock, VALLEY_START, 10).points, rtol=1e-9)


@pytest.mark.parametrize("memory", [1, 5, 10])
def test_lbfgs_state_size_stays_within_its_documented_limit(memory: int):
    params = {"kernel": jnp.zeros((40, 25)), "bias": jnp.zeros(25)}
    size = sum(x.nbytes for x in jax.tree.leaves(params))
    held = sum(x.nbytes for x in jax.tree.leaves(lbfgs(memory_size=memory).init(params)))
    assert held <= (2 * memory + 4) * size


def inverse_by_hand(steps: list[np.ndarray], changes: list[np.ndarray]) -> np.ndarray:
    """The dense inverse Hessian of these pairs, upon (s'y / y'y) I of the last one (Nocedal & Wright 7.16)."""
    s, y = steps[-1], changes[-1]
    inverse = s @ y / (y @ y) * np.eye(s.size)
    for s, y in zip(steps, changes, strict=True):
        rho = 1 / (s @ y)
        left = np.eye(s.size) - rho * np.outer(s, y)
        inverse = left @ inverse @ left.T + rho * np.outer(s, s)
    return inverse


@pytest.mark.quick_cases("3")
@pytest.mark.parametrize("memory", [slow(1), 3, 20])
def test_lbfgs_directions_equal_the_dense_formula(memory: int):
    value_fn, start, count = wavy(7, 5), 2 * np.random.default_rng(3).normal(size=5), 10
    with jax.enable_x64(True):
        trace = minimize(lbfgs(memory_size=memory), value_fn, start, count)
        points = np.array([start, *trace.points])
        grads = np.asarray(jax.jit(jax.vmap(jax.grad(value_fn)))(jnp.asarray(points)))
    steps, changes = np.diff(points, axis=0), np.diff(grads, axis=0)
    lengths = []
    for k in range(1, count):
        pairs = [i for i in range(k) if steps[i] @ changes[i] > 0][-memory:]
        direction = -inverse_by_hand([steps[i] for i in pairs], [changes[i] for i in pairs]) @ grads[k]
        lengths.append(steps[k] @ direction / (direction @ direction))
        np.testing.assert_allclose(steps[k], lengths[-1] * direction, rtol=0, atol=1e-10 * np.abs(steps[k]).max())
    assert np.isclose(lengths, 1, rtol=0, atol=1e-10).sum() >= 3  # where the first trial was taken, as it often is


@pytest.mark.slow
def test_lbfgs_clears_its_memory_after_a_failed_search():
    """A start value reported too low makes the search fail: no step, and the next step follows the gradient."""
    tx = lbfgs()
    with jax.enable_x64(True):
        trace = minimize(tx, rosenbrock, VALLEY_START, 6)
        x = jnp.asarray(trace.points[-1])
        value, grad = jax.value_and_grad(rosenbrock)(x)
        compiled = jax.jit(lambda s, v: tx.update(grad, s, x, value=v, value_fn=rosenbrock))
        usual, _ = compiled(trace.state, value)
        nothing, cleared = compiled(trace.state, value - 1e6)
        again, _ = compiled(cleared, value)
    np.testing.assert_array_equal(nothing, [0, 0])
    np.testing.assert_array_equal(cleared.curvatures, np.zeros(10))
    downhill = -np.asarray(grad) / np.linalg.norm(grad)
    again, usual = np.asarray(again), np.asarray(usual)
    np.testing.assert_allclose(again / np.linalg.norm(again), downhill, rtol=1e-12)
    assert np.abs(usual / np.linalg.norm(usual) - downhill).max() > 0.1


@pytest.mark.quick_cases("lbfgs-strong_wolfe")
@rules_and_searches
def test_nonfinite_values_give_no_step_and_leave_no_trace(rule: str, search: Any):
    tx = RULES[rule][0](line_search=search)
    start = jnp.asarray(VALLEY_START, jnp.float32)
    value, grad = jax.value_and_grad(rosenbrock)(start)
    compiled = jax.jit(lambda g, s, v: tx.update(g, s, start, value=v, value_fn=rosenbrock))
    for bad_value, bad_grad in [(value, grad.at[0].set(jnp.nan)), (value, grad.at[1].set(jnp.inf)), (jnp.nan, grad)]:
        update, state = compiled(bad_grad, tx.init(start), jnp.asarray(bad_value, jnp.float32))
        np.testing.assert_array_equal(update, [0, 0])
        update, _ = compiled(grad, state, value)
        assert rosenbrock(start + update) < value


@pytest.mark.quick_cases("lbfgs")
@rules
def test_line_search_methods_stay_at_the_optimum(rule: str):
    tx, x = RULES[rule][0](), jnp.ones(2)
    value, grad = jax.value_and_grad(rosenbrock)(x)
    update, state = jax.jit(lambda: tx.update(grad, tx.init(x), x, value=value, value_fn=rosenbrock))()
    np.testing.assert_array_equal(update, [0, 0])
    assert state.evaluations == 1


@first_rule
def test_float32_line_search_methods_stay_finite_at_the_optimum(rule: str):
    trace = minimize(RULES[rule][0](), rosenbrock, VALLEY_START.astype(np.float32), 150)
    assert trace.points.dtype == np.float32
    assert np.isfinite(trace.points).all()
    assert trace.values[-1] < 1e-8
    assert np.all(np.diff(trace.values) <= 0)


@rules
def test_line_search_methods_without_an_objective_raise_an_error(rule: str):
    tx, x = RULES[rule][0](), jnp.ones(2)
    with pytest.raises(ValueError, match="value_fn=objective"):
        tx.update(x, tx.init(x), x)


@first_rule
def test_line_search_methods_converge_with_a_later_update_multiplier(rule: str):
    """Half of each step is applied; the pairs must use the applied steps, and the method still converges."""
    halved = optax.chain(RULES[rule][0](), optax.scale(0.5))
    with jax.enable_x64(True):
        trace = minimize(halved, lambda x: jnp.sum(jnp.asarray([1.0, 4.0, 9.0]) * x**2), np.ones(3), 60)
    assert trace.values[-1] < 1e-10
