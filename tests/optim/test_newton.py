"""Newton's method and Hessian-free optimization: exact on quadratics, monotone where the Hessian is indefinite."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxtrain.optim import hessian_free, newton
from jaxtrain.optim.batch_objective import BatchObjective
from jaxtrain.optim.hessian_free import gauss_newton_product, hessian_product, solve_truncated_cg
from tests.conftest import slow
from tests.optim.problems import VALLEY_START, assert_descends_from_random_starts, minimize, rosenbrock, steps_to

RNG = np.random.default_rng(4)
_q = np.linalg.qr(RNG.normal(size=(5, 5)))[0]
MATRIX, SOLUTION = _q @ np.diag([0.1, 1.0, 2.0, 5.0, 20.0]) @ _q.T, RNG.normal(size=5)


def quadratic(x: jax.Array) -> jax.Array:
    away = x - jnp.asarray(SOLUTION, x.dtype)
    return away @ jnp.asarray(MATRIX, x.dtype) @ away / 2


def pure(damping: float) -> Any:
    return newton(damping=damping, levenberg_marquardt=False)


def test_newton_minimizes_a_quadratic_in_one_step():
    with jax.enable_x64(True):
        np.testing.assert_allclose(minimize(pure(0.0), quadratic, np.ones(5), 1).points[0], SOLUTION, rtol=1e-10)


def test_undamped_newton_on_rosenbrock_matches_published_values():
    """Without damping the value rises to 1411.8 before it falls."""
    with jax.enable_x64(True):
        values = minimize(pure(0.0), rosenbrock, VALLEY_START, 6).values
    np.testing.assert_allclose(values[:4], [4.7319, 1411.845, 0.055965, 0.31319], rtol=2e-5)
    assert values[4] < 1e-10
    assert values[5] < 1e-18


@pytest.mark.slow
def test_newton_with_large_damping_equals_gradient_descent():
    with jax.enable_x64(True):
        start = jnp.ones(5)
        step = minimize(pure(1e8), quadratic, start, 1).points[0] - start
        np.testing.assert_allclose(step, -jax.grad(quadratic)(start) / 1e8, rtol=1e-6)


@pytest.mark.parametrize("rule", ["newton", "hessian_free"])
def test_newton_and_hessian_free_need_few_more_iterations_than_scipy(rule: str):
    optimize = pytest.importorskip("scipy.optimize", reason="the oracle is SciPy's Newton-CG")
    tx = newton() if rule == "newton" else hessian_free(curvature="hessian")
    theirs: list[float] = []
    optimize.minimize(
        optimize.rosen,
        VALLEY_START,
        jac=optimize.rosen_der,
        hess=optimize.rosen_hess,
        method="Newton-CG",
        callback=lambda x: theirs.append(optimize.rosen(x)),
    )
    with jax.enable_x64(True):
        trace = minimize(tx, rosenbrock, VALLEY_START, 90)
    assert steps_to(trace.values, 1e-9) <= 1.25 * steps_to(np.asarray(theirs), 1e-9)
    assert np.all(np.diff(trace.values) <= 0)


def test_newton_and_hessian_free_never_increase_a_nonconvex_objective():
    for tx in (newton(), newton(damping=0.0), hessian_free(curvature="hessian")):
        assert_descends_from_random_starts(tx)


def test_newton_damping_falls_after_good_steps_and_rises_after_rejected_steps():
    with jax.enable_x64(True):
        eased = minimize(newton(damping=1.0), quadratic, np.ones(5), 5).state.damping
        climbing = minimize(newton(damping=1e-3), lambda x: jnp.cos(x).sum(), np.full(3, 0.1), 1).state.damping
    assert eased < 0.01
    assert climbing > 0.3  # the Hessian there is about -1


# A softmax network, for the Gauss-Newton matrix.
INPUTS, LABELS = RNG.normal(size=(40, 4)), RNG.integers(0, 3, 40)


def network(params: Any) -> jax.Array:
    hidden = jnp.tanh(jnp.asarray(INPUTS, params["in"].dtype) @ params["in"])
    return hidden @ params["out"]


def cross_entropy(logits: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(LABELS)).mean()


def weights(dtype: Any) -> dict[str, jax.Array]:
    rng = np.random.default_rng(0)
    return {"in": jnp.asarray(rng.normal(size=(4, 6)), dtype), "out": jnp.asarray(rng.normal(size=(6, 3)), dtype)}


def flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.asarray(x).reshape(-1) for x in jax.tree.leaves(tree)])


def dense(product: Any, like: Any) -> np.ndarray:
    """Return the dense matrix of a matrix-vector product, column by column."""
    vector, restored = jax.flatten_util.ravel_pytree(like)
    return np.stack([flat(product(restored(row))) for row in np.eye(vector.size)], axis=1)


@pytest.mark.slow
def test_gauss_newton_product_equals_the_explicit_matrix():
    with jax.enable_x64(True):
        params = weights(jnp.float64)
        objective = BatchObjective(outputs=network, output_loss=cross_entropy)
        product = gauss_newton_product(params, {"objective": objective})
        jacobian = np.concatenate(
            [np.asarray(j).reshape(120, -1) for j in jax.tree.leaves(jax.jit(jax.jacobian(network))(params))], axis=1
        )
        bend = np.asarray(jax.jit(jax.hessian(cross_entropy))(network(params))).reshape(120, 120)
        np.testing.assert_allclose(dense(product, params), jacobian.T @ bend @ jacobian, atol=1e-12)


@pytest.mark.slow
def test_gauss_newton_matrix_of_linear_least_squares_equals_the_hessian():
    with jax.enable_x64(True):
        inputs, targets = jnp.asarray(INPUTS), jnp.asarray(RNG.normal(size=(40, 2)))
        params = {"kernel": jnp.ones((4, 2))}

        def outputs(p: Any) -> jax.Array:
            return inputs @ p["kernel"]

        def loss(y: jax.Array) -> jax.Array:
            return jnp.square(y - targets).mean()

        explicit = dense(
            gauss_newton_product(params, {"objective": BatchObjective(outputs=outputs, output_loss=loss)}), params
        )
        hessian = dense(hessian_product(lambda p: loss(outputs(p)), params), params)
        np.testing.assert_allclose(explicit, hessian, atol=1e-12)


def test_truncated_cg_solves_the_damped_system_when_run_to_convergence():
    with jax.enable_x64(True):
        gradient = jnp.asarray(1e-12 * RNG.normal(size=5))  # so that the residual asked for is 1e-18
        solution, used = solve_truncated_cg(lambda v: jnp.asarray(MATRIX) @ v, jnp.asarray(0.3), gradient, 50)
        expected = -np.linalg.solve(MATRIX + 0.3 * np.eye(5), np.asarray(gradient))
    np.testing.assert_allclose(solution, expected, rtol=1e-5)
    assert 5 <= int(used) <= 7


def test_truncated_cg_stops_at_negative_curvature_with_a_descent_direction():
    with jax.enable_x64(True):
        gradient = jnp.asarray([1.0, 1.0])
        at_once, used = solve_truncated_cg(lambda v: -v, jnp.asarray(0.0), gradient, 50)
        np.testing.assert_array_equal(at_once, [-1, -1])
        assert int(used) == 1
        later, used = solve_truncated_cg(lambda v: jnp.asarray([10.0, -1.0]) * v, jnp.asarray(0.0), gradient, 50)
        assert int(used) == 2
        assert float(later @ gradient) < 0


@pytest.mark.parametrize("curvature", ["gauss_newton", slow("hessian")])
def test_hessian_free_halves_the_loss_that_gradient_descent_reaches(curvature: Any):
    tx, params = hessian_free(curvature=curvature), weights(jnp.float32)

    def objective(p: Any) -> jax.Array:
        return cross_entropy(network(p))

    def body(carry: Any, _: None) -> Any:
        p, state = carry
        value, grad = jax.value_and_grad(objective)(p)
        extra = {"objective": BatchObjective(outputs=network, output_loss=cross_entropy)}
        update, state = tx.update(grad, state, p, value=value, value_fn=objective, **extra)
        return (optax.apply_updates(p, update), state), value

    values = np.asarray(jax.jit(lambda p: jax.lax.scan(body, (p, tx.init(p)), None, length=30)[1])(params))
    assert np.all(np.diff(values) <= 0)

    @jax.jit
    def descend(p: Any, rate: jax.Array) -> Any:
        def step(p: Any, _: None) -> Any:
            return jax.tree.map(lambda x, g: x - rate * g, p, jax.grad(objective)(p)), None

        return objective(jax.lax.scan(step, p, None, length=30)[0])

    assert values[-1] < 0.5 * min(descend(params, jnp.float32(rate)) for rate in (0.1, 0.3, 1.0, 3.0))


def test_float32_newton_and_hessian_free_stay_finite_at_the_optimum():
    for tx in (newton(), hessian_free(curvature="hessian")):
        trace = minimize(tx, rosenbrock, VALLEY_START.astype(np.float32), 120)
        assert np.isfinite(trace.points).all()
        assert trace.values[-1] < 1e-7
        assert np.all(np.diff(trace.values) <= 0)


def test_newton_and_hessian_free_errors_name_the_missing_argument():
    x = jnp.ones(2)
    for tx in (newton(), hessian_free(curvature="hessian")):
        with pytest.raises(ValueError, match="value_fn=objective"):
            tx.update(x, tx.init(x), x)
    tx = hessian_free()
    with pytest.raises(ValueError, match=r"outputs.*curvature=\"hessian\""):
        tx.update(x, tx.init(x), x, value_fn=rosenbrock)


def test_newton_refuses_too_many_parameters_and_reports_the_memory():
    with pytest.raises(ValueError, match=r"newton .*1,000,000 x 1,000,000 numbers, 4,000\.0 GB"):
        newton().init(jnp.zeros((1000, 1000)))
